import asyncio
import io
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import Any

import pytest
import structlog
from aiohttp import WSMsgType, WSServerHandshakeError, hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import logs
from package_name.admin.logs import feed, level
from package_name.app import create_app
from package_name.live import BUS
from package_name.live.sockets import PROTOCOL

from ...helpers import STANDALONE, Client, json_lines, own, running, session
from ..helpers import sign_in

# % endfilter
library = logging.getLogger("some.library")
PAGE = "/admin/logs/"
AGAIN = "the log level is INFO again"
Records = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """All logging of the process, as production writes it, and a feed that is quick."""
    monkeypatch.setattr(feed, "INTERVAL", 0.02)
    monkeypatch.setattr(feed, "RENEWAL", 0.1)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8", write_through=True))
    handlers, before = logging.root.handlers[:], logging.root.level
    configured = structlog.get_config()
    logs.configure(level="INFO", json=True)
    yield raw
    logging.captureWarnings(False)
    structlog.configure(**configured)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(before)


async def signed_in(aiohttp_client: AiohttpClient) -> Client:
    """Return a client, as admin is, of an application that is made now."""
    client = await aiohttp_client(create_app())
    assert (await sign_in(client)).status == 303
    client.session.headers.update(own(client))
    return client


def app_of(client: Client) -> web.Application:
    assert client.app
    return client.app


def tail(client: Client, **query: str) -> Any:
    return client.ws_connect(f"{PAGE}tail", params=query, protocols=(PROTOCOL,))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it asks for has no event
            await asyncio.sleep(0.01)


async def listening() -> None:
    """Wait until the worker has heard that somebody watches."""
    await until(lambda: bool(logs.TAP.listeners))


async def read(ws: Any, last: Callable[[dict[str, Any]], bool]) -> Records:
    """Return the records that come, up to a certain one, each with its worker."""
    records: Records = []
    async with asyncio.timeout(20):
        while not any(map(last, records)):
            message = await ws.receive_json()
            assert message["type"] == "records"
            assert message["dropped"] == 0
            records += [record | {"worker": message["worker"]} for record in message["records"]]
    return records


def said(event: str) -> Callable[[dict[str, Any]], bool]:
    return lambda record: record["event"] == event


async def test_only_who_has_signed_in_sees_and_switches(client: Client) -> None:
    async with client.get(PAGE, headers={hdrs.ACCEPT: "text/html"}) as response:
        assert response.url.path == "/admin/login"
    with pytest.raises(WSServerHandshakeError) as error:
        await tail(client)
    assert error.value.status == 401
    order = {"level": "DEBUG", "minutes": "1"}
    async with client.post(f"{PAGE}level", data=order, headers=own(client)) as response:
        assert response.status == 401
    assert app_of(client)[level.SWITCH].order is None
    assert not logs.TAP.listeners


async def test_the_page_offers_the_levels(admin: Client) -> None:
    async with admin.get(PAGE) as response:
        assert response.status == 200
        page = await response.text()
    for name in ("DEBUG", "WARNING", "ERROR"):
        assert page.count(f"<option>{name}</option>") == 2
    assert page.count("<option selected>INFO</option>") == 2
    assert "INFO, as set" in page
    assert f'data-url="{PAGE}tail"' in page


async def test_the_tail_shows_what_is_logged(admin: Client) -> None:
    library.info("before")
    async with tail(admin) as ws:
        await listening()
        async with admin.get("/livez?q=1") as response:
            request_id = response.headers["X-Request-ID"]
        try:
            raise ValueError("for the log")
        except ValueError:
            library.exception("it failed", extra={"order": 7})
        records = await read(ws, said("it failed"))
    assert "before" not in [record["event"] for record in records]
    (access,) = [record for record in records if record["logger"] == "access"]
    assert (access["path"], access["request_id"]) == ("/livez?q=1", request_id)
    assert (records[-1]["level"], records[-1]["order"]) == ("error", 7)
    assert "ValueError: for the log" in records[-1]["exception"]
    assert all(record["timestamp"] for record in records)


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
async def test_the_tail_shows_what_one_wants(
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


async def test_a_level_that_is_none_cannot_be_watched(admin: Client) -> None:
    for name in ("LOUD", "info", ""):
        with pytest.raises(WSServerHandshakeError) as error:
            await tail(admin, level=name)
        assert error.value.status == 400


@pytest.mark.parametrize("json", [True, False])
async def test_large_and_odd_records_are_shown_as_well_as_can_be(admin: Client, json: bool) -> None:
    logs.configure(level="INFO", json=json)
    async with tail(admin) as ws:
        await listening()
        for number in range(20):  # together too large for one message
            library.info("%d %s", number, "x" * feed.MAX_TEXT)
        library.info("many", extra={"values": ["y" * 1000] * 50})
        library.info("odd", extra={"value": "\udcff", "large": 2**70, "other": object()})
        try:
            raise ValueError("for the log")
        except ValueError:
            library.exception("failed")
        *numbers, many, odd, failed = await read(ws, said("failed"))
    for number, record in enumerate(numbers):
        assert record["event"].startswith(f"{number} xxx")
        assert record["event"].endswith("x …")
        assert len(record["event"]) == feed.MAX_TEXT + 2
    assert len(numbers) == 20
    assert many["event"].startswith("a record of 5")
    assert (many["level"], many["logger"]) == ("info", "some.library")
    assert "values" not in many
    assert odd["other"].startswith("<object object")
    assert "ValueError: for the log" in failed["exception"]


async def test_records_that_are_too_many_are_counted(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_RECORDS", 5)
    client = await signed_in(aiohttp_client)
    async with tail(client) as ws, tail(client, text="none has it") as other:
        await listening()
        library.info("alone")
        await read(ws, said("alone"))  # so that nothing waits
        for number in range(8):
            library.info(str(number))
        message = await ws.receive_json(timeout=20)
        assert [record["event"] for record in message["records"]] == list("34567")
        assert message["dropped"] == 3
        assert await other.receive_json(timeout=20) == message | {"records": []}


async def test_nothing_is_published_unless_somebody_watches(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WATCH", 0.4)
    async with app_of(admin)[BUS].subscribe(feed.RECORDS) as published:
        async with tail(admin) as ws:
            await listening()
            await asyncio.sleep(0.7)  # for longer than a worker goes on by itself
            library.info("seen")
            await read(ws, said("seen"))
        await until(lambda: not logs.TAP.listeners)
        while not published._waiting.empty():
            await anext(published)
        library.info("unseen")
        await asyncio.sleep(0.1)
        assert published._waiting.empty()


async def test_the_tail_ends_with_the_session(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tails = []
    for setting in ("SESSION_LIFETIME", "SESSION_IDLE_TIMEOUT"):
        with monkeypatch.context() as context:
            context.setenv(setting, "2")
            tails.append(await tail(await signed_in(aiohttp_client), text="none has it"))
    for ws in tails:
        assert (await ws.receive(timeout=20)).type is WSMsgType.CLOSE
        assert ws.close_code == 1008


async def test_orders_that_make_no_sense_are_refused(admin: Client) -> None:
    minutes = ("", "0", "61", "-1", "1.5", "x", "²", "9" * 5000)
    orders = [{"level": "DEBUG", "minutes": wrong} for wrong in minutes]
    orders += [{"level": "DEBUG"}, {"minutes": "1"}, {"level": "LOUD", "minutes": "1"}]
    for order in orders:
        async with admin.post(f"{PAGE}level", data=order) as response:
            assert response.status == 400
    assert app_of(admin)[level.SWITCH].order is None


async def test_a_switch_of_the_level_is_shown_and_ends_with_the_application(admin: Client) -> None:
    async with admin.post(f"{PAGE}level", data={"level": "ERROR", "minutes": "60"}) as response:
        assert response.url.path == PAGE
        assert "ERROR, by ada, until" in await response.text()
    assert logging.root.level == logging.ERROR
    await admin.close()
    assert logging.root.level == logging.INFO


async def test_the_latest_order_counts(aiohttp_client: AiohttpClient, output: io.BytesIO) -> None:
    app = create_app()
    await aiohttp_client(app)
    now = time()
    orders = [
        level.Order("DEBUG", now, now + 60, "ada"),
        level.Order("ERROR", now - 1, now + 60, "an older one"),
        level.Order("DEBUG", now, now + 60, "ada"),  # repeated for a new worker
        level.Order("ERROR", now + 1, now - 1, "one that is over"),
        level.Order("WARNING", now + 2, now + 1, "eve"),
    ]
    for order in orders:
        await app[BUS].publish(level.CHANNEL, asdict(order))
    await until(lambda: app[level.SWITCH].level == "WARNING")
    assert logging.root.level == logging.WARNING
    await until(lambda: app[level.SWITCH].order is None)
    assert logging.root.level == logging.INFO
    lines = json_lines(output.getvalue().decode())
    events = [line["event"] for line in lines if line["logger"] == level.__name__]
    assert [re.sub(r"\d+", "N", event) for event in events] == [
        "the log level is DEBUG for N s, by ada",
        "the log level is WARNING for N s, by eve",
        AGAIN,
    ]


async def test_all_workers_are_heard_and_obey(admin: Client, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    await level.give(app_of(admin), "DEBUG", 60, "ada")
    with running([*STANDALONE, "--path", str(path)], path) as process:
        async with tail(admin) as ws, session(path) as theirs:
            await asyncio.sleep(0.3)  # it has been told three times that somebody watches
            async with theirs.get("/livez") as response:
                request_id = response.headers["X-Request-ID"]
            records = await read(ws, lambda record: record.get("request_id") == request_id)
            assert (records[-1]["worker"], records[-1]["path"]) == (process.pid, "/livez")
            await level.give(app_of(admin), "WARNING", 1, "eve")
            both = await read(
                ws, lambda record: (record["worker"], record["event"]) == (process.pid, AGAIN)
            )
        process.send_signal(signal.SIGTERM)
        stdout, stderr = await asyncio.to_thread(process.communicate, timeout=20)
    assert (process.returncode, stderr) == (0, "")
    lines = json_lines(stdout)
    events = [line["event"] for line in lines if line["logger"] == level.__name__]
    switched = "the log level is WARNING for N s, by eve"
    assert [re.sub(r"\d+", "N", event) for event in events] == [
        "the log level is DEBUG for N s, by ada",  # a new worker obeys as well
        switched,
        AGAIN,
    ]
    assert [re.sub(r"\d+", "N", record["event"]) for record in both].count(switched) == 2
