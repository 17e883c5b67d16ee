import logging
from collections.abc import Callable

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError, hdrs
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin.logs import level
from package_name.logs import TAP

from ...helpers import TIMEOUT, Client, own
from ..helpers import signed_in
from .helpers import PAGE, app_of, listening, read, tail

# % endfilter
library = logging.getLogger("some.library")


async def test_page_tail_and_switch_require_a_session(client: Client) -> None:
    async with client.get(PAGE, headers={hdrs.ACCEPT: "text/html"}) as response:
        assert response.url.path == "/admin/login"
    with pytest.raises(WSServerHandshakeError) as error:
        await tail(client)
    assert error.value.status == 401
    order = {"level": "DEBUG", "minutes": "1"}
    async with client.post(f"{PAGE}level", data=order, headers=own(client)) as response:
        assert response.status == 401
    assert app_of(client)[level.SWITCH].order is None
    assert not TAP.listeners


async def test_page_offers_the_levels(admin: Client) -> None:
    async with admin.get(PAGE) as response:
        assert response.status == 200
        page = await response.text()
    for name in ("DEBUG", "WARNING", "ERROR"):
        assert page.count(f"<option>{name}</option>") == 2
    assert page.count("<option selected>INFO</option>") == 2
    assert "INFO, as set" in page
    assert f'data-url="{PAGE}tail"' in page


@pytest.mark.parametrize(
    ("query", "events"),
    [
        ({}, ["one", "Two", "three"]),
        ({"level": "WARNING"}, ["Two", "three"]),
        ({"level": "ERROR"}, ["three"]),
        ({"text": "TWO"}, ["Two"]),
        ({"text": " needle "}, ["three"]),
        ({"text": "some.LIBRARY"}, ["one", "Two", "three"]),
        ({"request_id": "r1"}, ["one", "three"]),
        ({"request_id": "r"}, []),
        ({"request_id": "r1", "text": "e", "level": "WARNING"}, ["three"]),
    ],
)
async def test_tail_shows_the_records_that_match_the_query(
    admin: Client, query: dict[str, str], events: list[str]
) -> None:
    async with tail(admin, **query) as ws:
        await listening()
        library.info("one", extra={"request_id": "r1"})
        library.warning("Two")
        library.error("three", extra={"request_id": "r1", "of": ["Needles", 3]})
        request_id = query.get("request_id", "")
        library.error(f"the end: {query.get('text')}", extra={"request_id": request_id})
        records = await read(ws, lambda record: record["event"].startswith("the end"))
    assert [record["event"] for record in records[:-1]] == events


@pytest.mark.parametrize("name", ["LOUD", "info", ""])
async def test_tail_of_an_unknown_level_is_400(admin: Client, name: str) -> None:
    with pytest.raises(WSServerHandshakeError) as error:
        await tail(admin, level=name)
    assert error.value.status == 400


@pytest.mark.parametrize("setting", ["SESSION_LIFETIME", "SESSION_IDLE_TIMEOUT"])
async def test_tail_ends_with_the_session(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    advance: Callable[[float], None],
    setting: str,
) -> None:
    monkeypatch.setenv(setting, "1000")
    ws = await tail(await signed_in(aiohttp_client), text="no record has it")
    await ws.send_json({"type": "ping"})
    assert await ws.receive_json(timeout=TIMEOUT) == {"type": "pong"}
    advance(1001)
    assert (await ws.receive(timeout=TIMEOUT)).type is WSMsgType.CLOSE
    assert ws.close_code == 1008


async def test_invalid_order_is_400(admin: Client) -> None:
    minutes = ("", "0", "61", "-1", "1.5", "x", "²", "9" * 5000)
    orders = [{"level": "DEBUG", "minutes": wrong} for wrong in minutes]
    orders += [{"level": "DEBUG"}, {"minutes": "1"}, {"level": "LOUD", "minutes": "1"}]
    for order in orders:
        async with admin.post(f"{PAGE}level", data=order) as response:
            assert response.status == 400
    assert app_of(admin)[level.SWITCH].order is None
