import asyncio
import logging
from collections.abc import Callable

import pytest
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import logs
from package_name.admin.logs import feed
from package_name.live import BUS

from ...helpers import TIMEOUT, Client, until
from ..helpers import signed_in
from .helpers import app_of, has_event, listening, read, tail

# % endfilter
library = logging.getLogger("some.library")


async def test_records_are_published_from_the_time_they_are_watched(admin: Client) -> None:
    library.info("before")
    async with tail(admin) as ws:
        await listening()
        async with admin.get("/livez?q=1") as response:
            request_id = response.headers["X-Request-ID"]
        try:
            raise ValueError("for the log")
        except ValueError:
            library.exception("it failed", extra={"order": 7})
        records = await read(ws, has_event("it failed"))
    assert "before" not in [record["event"] for record in records]
    (access,) = [record for record in records if record["logger"] == "access"]
    assert (access["path"], access["request_id"]) == ("/livez?q=1", request_id)
    assert (records[-1]["level"], records[-1]["order"]) == ("error", 7)
    assert "ValueError: for the log" in records[-1]["exception"]
    assert all(record["timestamp"] for record in records)


@pytest.mark.parametrize("json", [True, False])
async def test_large_records_are_shortened_and_odd_values_are_shown(
    admin: Client, json: bool
) -> None:
    logs.configure(level="INFO", json=json)
    async with tail(admin) as ws:
        await listening()
        for number in range(20):  # too large for one message when combined
            library.info("%d %s", number, "x" * feed.MAX_TEXT)
        library.info("many", extra={"values": ["y" * 1000] * 50})
        library.info("odd", extra={"value": "\udcff\u202e", "large": 2**70, "other": object()})
        library.info("nested", extra={"values": ["\u202e"], "plain": ["a"]})
        try:
            raise ValueError("for the log")
        except ValueError:
            library.exception("failed")
        *numbers, many, odd, nested, failed = await read(ws, has_event("failed"))
    for number, record in enumerate(numbers):
        assert record["event"].startswith(f"{number} xxx")
        assert record["event"].endswith("x …")
        assert len(record["event"]) == feed.MAX_TEXT + 2
    assert len(numbers) == 20
    assert many["event"].startswith("a record of 5")
    assert (many["level"], many["logger"]) == ("info", "some.library")
    assert "values" not in many
    assert odd["value"] == r"\udcff\u202e"
    assert odd["other"].startswith("<object object")
    assert (nested["values"], nested["plain"]) == (r'["\u202e"]', ["a"])
    assert "ValueError: for the log" in failed["exception"]


async def test_oldest_records_beyond_the_limit_are_dropped_and_counted(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_RECORDS", 5)
    client = await signed_in(aiohttp_client)
    async with tail(client) as ws, tail(client, text="no record has it") as other:
        await listening()
        library.info("alone")
        await read(ws, has_event("alone"))  # so that no record is queued
        for number in range(8):
            library.info(str(number))
        message = await ws.receive_json(timeout=TIMEOUT)
        assert [record["event"] for record in message["records"]] == list("34567")
        assert message["dropped"] == 3
        assert await other.receive_json(timeout=TIMEOUT) == message | {"records": []}


async def test_records_are_published_only_while_they_are_watched(
    admin: Client, advance: Callable[[float], None]
) -> None:
    app = app_of(admin)
    async with (
        app[BUS].subscribe(feed.RECORDS) as published,
        app[BUS].subscribe(feed.WATCHING) as watching,
    ):
        async with tail(admin) as ws:
            await listening()
            for _ in range(int(2 * feed.WATCH / feed.RENEWAL)):  # longer than WATCH
                async with asyncio.timeout(TIMEOUT):
                    await anext(watching)
                advance(feed.RENEWAL)
            library.info("seen")
            await read(ws, has_event("seen"))
        await until(lambda: app[feed.FEED].viewers == 0)
        advance(feed.WATCH + 1)
        await until(lambda: not logs.TAP.listeners)
        await app[BUS].publish(feed.RECORDS, "the end of what was seen")
        while await anext(published) != "the end of what was seen":
            pass
        library.info("unseen")
        await feed.publish(app)
        await app[BUS].publish(feed.RECORDS, "the end")
        assert await anext(published) == "the end"
