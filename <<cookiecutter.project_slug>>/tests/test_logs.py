import asyncio
import io
import json
import logging
import os
import pty
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import structlog
from aiohttp import web
from pytest_aiohttp import AiohttpClient
from structlog.typing import EventDict

# % filter replace("package_name", cookiecutter.package_name)
from package_name import logs
from package_name.app import create_app
from package_name.web import access_log

from .helpers import json_lines

# % endfilter
library = logging.getLogger("some.library")
STARTED: ContextVar[str] = ContextVar("STARTED")
TOUCHED: ContextVar[str] = ContextVar("TOUCHED")


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """All logging of the process, as production writes it."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8", write_through=True))
    handlers, level = logging.root.handlers[:], logging.root.level
    before = structlog.get_config()
    logs.configure(level="INFO", json=True)
    yield raw
    logging.captureWarnings(False)
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


async def everywhere(request: web.Request) -> web.Response:
    """Log from the handler, from a task, and from threads started in both ways."""
    library.info("handler")
    await asyncio.create_task(asyncio.to_thread(library.info, "task and to_thread"))
    await asyncio.get_running_loop().run_in_executor(None, library.info, "executor")
    await asyncio.sleep(0.01)  # so that requests overlap
    library.info("after")
    return web.Response()


async def test_every_record_of_a_request_carries_its_id(
    aiohttp_client: AiohttpClient, output: io.BytesIO
) -> None:
    app = create_app()
    app.router.add_get("/everywhere", everywhere)
    client = await aiohttp_client(app)
    answers = await asyncio.gather(*(client.get("/everywhere") for _ in range(5)))
    await client.close()  # all lines are written then
    lines = json_lines(output.getvalue().decode())
    records = [line for line in lines if "request_id" in line]  # not that the machine is busy
    for answer in answers:
        request_id = answer.headers["X-Request-ID"]
        events = [record["event"] for record in records if record["request_id"] == request_id]
        assert events == ["handler", "task and to_thread", "executor", "after", "request"]
    assert len(records) == 25


async def test_the_access_line(aiohttp_client: AiohttpClient, output: io.BytesIO) -> None:
    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response()

    app = create_app()
    app.router.add_get("/slow", slow)
    client = await aiohttp_client(app)
    async with client.get("/about?a=b", headers={"User-Agent": "tests"}) as response:
        await response.read()
        size = len(await response.read())
    async with client.get("/static/favicon.ico") as response:
        icon = len(await response.read())
    await client.head("/")
    await client.get("/slow")
    await client.close()
    lines = json_lines(output.getvalue().decode())
    about, static, head, slept = (line for line in lines if line["logger"] == "access")
    assert about.pop("duration_ms") >= 0
    assert about.pop("timestamp").endswith("Z")
    assert about.pop("bytes") == size
    assert static["bytes"] == icon
    assert static["route"] == "static"
    assert head["bytes"] == 0
    assert 50 <= slept["duration_ms"] < 5000
    assert about == {
        "event": "request",
        "level": "info",
        "logger": "access",
        "request_id": about["request_id"],
        "client": "127.0.0.1",
        "scheme": "http",
        "method": "GET",
        "path": "/about?a=b",
        "route": "about",
        "status": 200,
        "user_agent": "tests",
    }


async def test_what_is_not_http_is_logged_too(
    aiohttp_client: AiohttpClient, output: io.BytesIO
) -> None:
    client = await aiohttp_client(create_app())
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"NONSENSE\r\n\r\n")
    assert b" 400 " in await reader.read()
    writer.close()
    await client.close()
    lines = json_lines(output.getvalue().decode())
    (line,) = (line for line in lines if line["logger"] == "access")
    assert (line["event"], line["client"], line["status"]) == (
        "malformed request",
        "127.0.0.1",
        400,
    )


async def test_the_level_silences_the_access_log_and_can_be_switched(
    aiohttp_client: AiohttpClient, output: io.BytesIO
) -> None:
    logs.set_level("WARNING")
    client = await aiohttp_client(create_app())
    async with client.get("/unseen"):
        pass
    logs.set_level("INFO")
    async with client.get("/seen"):  # on the same connection
        pass
    await client.close()
    lines = [line for line in json_lines(output.getvalue().decode()) if line["logger"] == "access"]
    assert [line["path"] for line in lines] == ["/seen"]


@pytest.mark.parametrize("json", [True, False])
@pytest.mark.usefixtures("output")
async def test_who_listens_gets_a_copy_of_every_record(
    aiohttp_client: AiohttpClient, capsys: pytest.CaptureFixture[str], json: bool
) -> None:
    heard: list[dict[str, Any]] = []

    def listen(event: EventDict) -> None:
        heard.append({**event})
        event.clear()

    logs.configure(level="INFO", json=json)
    client = await aiohttp_client(create_app())
    logs.TAP.listeners.add(listen)
    try:
        library.debug("below the level")
        library.warning("hello %s", "you", extra={"order": 7})
        async with client.get("/livez") as response:
            request_id = response.headers["X-Request-ID"]
        await client.close()
    finally:
        logs.TAP.listeners.remove(listen)
    library.warning("unheard")
    hello, request = (each for each in heard if each["logger"] in {"some.library", "access"})
    assert (hello["event"], hello["level"], hello["order"]) == ("hello you", "warning", 7)
    assert (request["path"], request["request_id"]) == ("/livez", request_id)
    assert hello["timestamp"]
    assert request["timestamp"]
    written = capsys.readouterr().out
    assert all(text in written for text in ("hello you", "/livez", "unheard"))


def test_errors_warnings_and_extras(output: io.BytesIO) -> None:
    try:
        raise ValueError("for the log")
    except ValueError:
        library.exception("it failed", extra={"order": 7})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("mind this", UserWarning, stacklevel=1)
    failed, warned = json_lines(output.getvalue().decode())
    assert failed["order"] == 7
    assert failed["level"] == "error"
    assert "ValueError: for the log" in failed["exception"]
    assert "request_id" not in failed
    assert "mind this" in warned["event"]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    "value", ["\udcff", 2**70, object(), {(1, 2): 3}, b"bytes", float("nan"), CIRCLE, Unshowable()]
)
def test_nothing_is_too_odd_to_be_logged(output: io.BytesIO, value: Any) -> None:
    library.info("odd", extra={"value": value})
    assert json.loads(output.getvalue())["event"] == "odd"


def test_extras_do_not_replace_what_every_record_has(output: io.BytesIO) -> None:
    false = dict.fromkeys(("event", "level", "logger", "timestamp"), "false")
    library.warning("true", extra=false)
    record = json.loads(output.getvalue())
    assert (record["event"], record["level"]) == ("true", "warning")
    assert "false" not in record.values()


async def test_an_access_line_that_fails_does_not_break_the_connection(
    aiohttp_client: AiohttpClient, output: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "route_name", None)
    client = await aiohttp_client(create_app())
    for _ in range(2):
        async with client.get("/livez") as response:
            assert response.status == 200
    await client.close()
    assert "the access line failed" in output.getvalue().decode()


async def test_bytes_that_are_no_text_change_nothing_else(
    aiohttp_client: AiohttpClient, output: io.BytesIO
) -> None:
    client = await aiohttp_client(create_app())
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /livez HTTP/1.0\r\nUser-Agent: \xff\xfe\r\n\r\n")
    assert b" 200 " in await reader.readline()
    writer.close()
    await client.close()
    lines = json_lines(output.getvalue().decode())
    (line,) = (line for line in lines if line["logger"] == "access")
    assert (line["status"], line["user_agent"]) == (200, "\udcff\udcfe")
    assert line["timestamp"].startswith("20")


async def test_a_request_whose_client_leaves_is_logged(
    aiohttp_client: AiohttpClient, output: io.BytesIO
) -> None:
    waiting = asyncio.Event()

    async def wait(_request: web.Request) -> web.Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    app = create_app()
    app.router.add_get("/wait", wait)
    client = await aiohttp_client(app)
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await waiting.wait()
    writer.transport.abort()
    async with asyncio.timeout(5):
        while b"cancelled: GET /wait" not in output.getvalue():  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)


async def test_a_variable_set_at_start_up_is_seen_and_one_set_in_a_handler_is_not(
    aiohttp_client: AiohttpClient,
) -> None:
    async def start(_app: web.Application) -> None:
        STARTED.set("at start-up")

    async def handler(request: web.Request) -> web.Response:
        seen = TOUCHED.get("untouched")
        TOUCHED.set("touched")
        return web.json_response([STARTED.get("unseen"), seen])

    app = create_app()
    app.on_startup.append(start)
    app.router.add_get("/variables", handler)
    client = await aiohttp_client(app)
    for _ in range(2):  # on the same connection
        async with client.get("/variables") as response:
            assert await response.json() == ["at start-up", "untouched"]


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_development_writes_coloured_text(no_color: str, coloured: bool) -> None:
    program = f"""
import logging, structlog
from {logs.__name__} import configure
configure(level="INFO", json=False)
logging.getLogger("library").info("hello")
structlog.get_logger().info("request")
"""
    environment = os.environ | ({"NO_COLOR": no_color} if no_color else {})
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stdout=theirs, env=environment, check=True)
    os.close(theirs)
    text = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "hello" in text
    assert "request" in text
    assert ("\x1b[" in text) is coloured
