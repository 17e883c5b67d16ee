import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.live import bus

from .helpers import Join, receive


# % endfilter
async def test_subscribers_of_a_channel_receive_all_its_messages_in_order(join: Join) -> None:
    here, there = await join(), await join()
    async with (
        here.subscribe("numbers") as one,
        here.subscribe("numbers") as two,
        there.subscribe("numbers") as three,
        there.subscribe("others") as others,
    ):
        for number in range(100):
            await here.publish("numbers", {"number": number})
        await here.publish("others", None)
        for messages in (one, two, three):
            assert [each["number"] for each in await receive(messages, 100)] == list(range(100))
        assert await receive(others, 1) == [None]
        await there.publish("numbers", "the other way")
        assert await receive(one, 1) + await receive(three, 1) == ["the other way"] * 2
    assert not here._subscriptions
    assert not there._subscriptions


async def test_publish_takes_json_of_up_to_64_kib(join: Join) -> None:
    here, there = await join(), await join()
    largest = "x" * (bus.MAX_SIZE - 2)  # plus two quotes
    async with there.subscribe("channel") as messages:
        await here.publish("channel", largest)
        assert await receive(messages, 1) == [largest]
        with pytest.raises(ValueError, match="larger than 65536"):
            await here.publish("channel", largest + "x")
        with pytest.raises(TypeError):
            await here.publish("channel", object())


@pytest.mark.parametrize("channel", ["", "a b", "a\nb", "a\n", "ä", "x" * 129])
async def test_publish_refuses_an_invalid_channel(join: Join, channel: str) -> None:
    with pytest.raises(ValueError, match="no name of a channel"):
        await (await join()).publish(channel, None)


async def test_slow_subscriber_gets_an_error_and_others_get_their_messages(join: Join) -> None:
    here = await join()
    async with here.subscribe("channel") as slow, here.subscribe("channel") as quick:
        for number in range(bus.MAX_WAITING + 1):
            await here.publish("channel", number)
            assert await receive(quick, 1) == [number]
        with pytest.raises(bus.SlowSubscriberError):
            await anext(slow)
