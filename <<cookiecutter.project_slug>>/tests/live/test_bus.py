import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.live import BUS, bus, local
from package_name.live.local import LocalBus, default_folder

# % endfilter
Join = Callable[[], Awaitable[LocalBus]]

ECHO = f"""
import asyncio, pathlib, sys
from {local.__name__} import LocalBus

async def main():
    bus = LocalBus(pathlib.Path(sys.argv[1]))
    await bus.open()
    async with bus.subscribe("there") as messages:
        await bus.publish("back", "ready")
        async for message in messages:
            await bus.publish("back", message)

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Path:
    """Where the workers meet."""
    return Path(os.environ["BUS_URL"].removeprefix("local:"))


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


@pytest.fixture
async def join(folder: Path) -> AsyncIterator[Join]:
    """Return a function that opens a bus, which is closed after the test."""
    async with AsyncExitStack() as stack:

        async def new() -> LocalBus:
            bus = LocalBus(folder)
            await bus.open()
            stack.push_async_callback(bus.close)
            return bus

        yield new


@asynccontextmanager
async def echoing(folder: Path, back: bus.Subscription) -> AsyncIterator[Process]:
    """Run a process that publishes to "back" what it gets from "there"."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ECHO, folder)
    try:
        assert await take(back, 1) == ["ready"]
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def take(messages: bus.Subscription, count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(messages) for _ in range(count)]


async def test_all_subscribers_of_a_channel_get_all_in_order(join: Join) -> None:
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
            assert [each["number"] for each in await take(messages, 100)] == list(range(100))
        assert await take(others, 1) == [None]
        await there.publish("numbers", "the other way")
        assert await take(one, 1) + await take(three, 1) == ["the other way"] * 2
    assert not here._subscriptions
    assert not there._subscriptions


async def test_who_joins_gets_the_next_message_and_who_leaves_is_forgotten(
    join: Join, folder: Path
) -> None:
    first = await join()
    await first.publish("channel", "for nobody")
    second = LocalBus(folder)
    await second.open()
    async with second.subscribe("channel") as messages:
        await first.publish("channel", "at once")
        assert await take(messages, 1) == ["at once"]
    await second.close()
    assert names(folder) == {first._own.name}
    await first.publish("channel", "for nobody")
    assert not first._siblings


async def test_messages_up_to_64_kib(join: Join) -> None:
    here, there = await join(), await join()
    largest = "x" * (bus.MAX_SIZE - 2)  # and two quotes
    async with there.subscribe("channel") as messages:
        await here.publish("channel", largest)
        assert await take(messages, 1) == [largest]
        with pytest.raises(ValueError, match="larger than 65536"):
            await here.publish("channel", largest + "x")
        with pytest.raises(TypeError):
            await here.publish("channel", object())


@pytest.mark.parametrize("channel", ["", "a b", "a\nb", "a\n", "ä", "x" * 129])
async def test_names_of_channels(join: Join, channel: str) -> None:
    with pytest.raises(ValueError, match="no name of a channel"):
        await (await join()).publish(channel, None)


async def test_who_does_not_read_is_told_so(join: Join) -> None:
    here = await join()
    async with here.subscribe("channel") as slow, here.subscribe("channel") as quick:
        for number in range(bus.MAX_WAITING + 1):
            await here.publish("channel", number)
            assert await take(quick, 1) == [number]
        with pytest.raises(bus.SlowSubscriberError):
            await anext(slow)


async def test_a_worker_that_reads_late_misses_nothing(join: Join, folder: Path) -> None:
    """The kernel keeps ten messages for it, on most systems, and this side the others."""
    bus = await join()
    async with bus.subscribe("back") as back, echoing(folder, back) as process:
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(20):
            for number in range(1000):
                await bus.publish("there", number)
        process.send_signal(signal.SIGCONT)
        assert await take(back, 1000) == list(range(1000))


async def test_what_a_worker_that_stands_still_misses_is_counted(
    join: Join,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(local, "MAX_BEHIND", 1024**2)
    bus = await join()
    async with bus.subscribe("back") as back, echoing(folder, back) as process:
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(20):  # it waits for nobody
            for number in range(50):
                await bus.publish("there", [number, "x" * 60_000])
        (sibling,) = bus._siblings.values()
        got = 50 - sibling._dropped
        assert 1024**2 // 60_100 <= got < 50
        (said,) = [each.message for each in caplog.records if each.name == local.__name__]
        assert said.endswith("1 messages dropped so far")
        process.send_signal(signal.SIGCONT)
        assert [number for number, _ in await take(back, got)] == list(range(got))
        await bus.publish("there", "again")
        assert await take(back, 1) == ["again"]
        said = [each.message for each in caplog.records if each.name == local.__name__][-1]
        assert said.endswith(f": {50 - got} messages dropped so far")


def clean(folder: Path, wholly: bool) -> None:
    for each in folder.iterdir():
        each.unlink()
    if wholly:
        folder.rmdir()


@pytest.mark.parametrize("lost", ["socket", "folder"])
async def test_a_cleaner_of_temporary_files_is_survived(
    join: Join, folder: Path, lost: str
) -> None:
    one, two = await join(), await join()
    async with one.subscribe("prices") as messages:
        clean(folder, lost == "folder")
        await two.publish("prices", "may be lost")  # which is no error
        for each in (one, two):
            await each.check()
            await each.check()  # once is enough
        await two.publish("prices", "again")
        async with asyncio.timeout(20):
            while await anext(messages) != "again":
                pass


@pytest.mark.parametrize("waiting", [1, 600])
async def test_a_worker_that_was_killed_is_swept_away(
    join: Join, folder: Path, waiting: int
) -> None:
    here, there = await join(), await join()
    async with (
        here.subscribe("back") as back,
        there.subscribe("there") as messages,
        echoing(folder, back) as process,
    ):
        process.send_signal(signal.SIGSTOP)
        for number in range(waiting):
            await here.publish("there", number)
        assert len(names(folder)) == 3
        process.kill()
        await process.wait()
        async with asyncio.timeout(20):
            while len(names(folder)) > 2:
                await here.publish("there", "more")
        await here.publish("there", "last")
        assert (await take(messages, waiting))[:waiting] == list(range(waiting))
        while (message := (await take(messages, 1))[0]) != "last":
            assert message == "more"
    assert list(here._siblings) == [there._own.name]


async def test_what_the_dead_left_is_swept_away_and_nothing_else(join: Join, folder: Path) -> None:
    stale = folder / "1-00000000.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(stale))
    (folder / "file").write_text("precious")
    (folder / "folder").mkdir()
    bus = await join()
    await bus.publish("channel", None)
    assert names(folder) == {bus._own.name, "file", "folder"}


async def test_what_cannot_be_reached_is_logged(
    join: Join, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(str(folder / "1-00000000.sock"))
        stream.listen()
        bus = await join()
        async with bus.subscribe("channel") as messages:
            await bus.publish("channel", "here")
            assert await take(messages, 1) == ["here"]
    assert "worker 1-00000000.sock cannot be reached" in caplog.text


async def test_the_folder_is_private(folder: Path) -> None:
    bus = LocalBus(folder / "a" / "b")
    await bus.open()
    await bus.close()
    assert (folder / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("open", PermissionError),
        ("somebody else's", PermissionError),
        ("link", PermissionError),
        ("file", FileExistsError),
        ("in a file", NotADirectoryError),
    ],
)
async def test_a_folder_that_others_could_use_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, error: type[OSError]
) -> None:
    place = folder / "place"
    if kind == "link":
        place.symlink_to(folder, target_is_directory=True)
    elif "file" in kind:
        place.write_text("precious")
        place = place / "bus" if kind == "in a file" else place
    else:
        place.mkdir(mode=0o700)
        if kind == "open":
            place.chmod(0o710)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(error):
        await LocalBus(place).open()


def test_the_default_folder_is_that_of_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = default_folder()
    assert default_folder() == before
    monkeypatch.setenv("BUS_URL", "local:")
    bus = create_app()[BUS]
    assert isinstance(bus, LocalBus)
    assert bus._folder == before
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert default_folder() != before
