import asyncio
import io
import re
import sys

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import logs
from package_name.app import create_app
from package_name.web import access_log
from package_name.web.context import get_context

from ..helpers import Client, access_lines, until


# % endfilter
async def test_access_line_has_all_facts_of_the_request(
    json_log: io.BytesIO, client: Client
) -> None:
    async with client.get("/about?a=b", headers={"User-Agent": "tests"}) as response:
        size = len(await response.read())
    await client.close()  # all lines are written by then
    (line,) = access_lines(json_log)
    assert line.pop("duration_ms") >= 0
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "access",
        "request_id": response.headers["X-Request-ID"],
        "client": "127.0.0.1",
        "scheme": "http",
        "method": "GET",
        "path": "/about?a=b",
        "route": "about",
        "status": 200,
        "bytes": size,
        "user_agent": "tests",
    }


async def test_access_line_counts_the_bytes_of_files_and_of_head(
    json_log: io.BytesIO, client: Client
) -> None:
    async with client.get("/static/favicon.ico") as response:
        icon = len(await response.read())
    async with client.head("/"):
        pass
    await client.close()
    lines = access_lines(json_log)
    assert [(line["route"], line["bytes"]) for line in lines] == [("static", icon), ("index", 0)]


async def test_access_line_counts_milliseconds_since_the_request_came(
    json_log: io.BytesIO, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(request: web.Request) -> web.Response:
        later = get_context(request).started + 0.25
        monkeypatch.setattr(access_log, "perf_counter", lambda: later)
        return web.Response()

    app = create_app()
    app.router.add_get("/slow", handler)
    client = await aiohttp_client(app)
    async with client.get("/slow"):
        pass
    await client.close()
    (line,) = access_lines(json_log)
    assert line["duration_ms"] == 250


async def test_malformed_request_is_logged(json_log: io.BytesIO, client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"NONSENSE\r\n\r\n")
    assert b" 400 " in await reader.read()
    writer.close()
    await client.close()
    (line,) = access_lines(json_log)
    found = (line["event"], line["client"], line["status"])
    assert found == ("malformed request", "127.0.0.1", 400)


async def test_header_that_is_not_utf_8_does_not_spoil_the_access_line(
    json_log: io.BytesIO, client: Client
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /livez HTTP/1.0\r\nUser-Agent: \xff\xfe\r\n\r\n")
    assert b" 200 " in await reader.readline()
    writer.close()
    await client.close()
    (line,) = access_lines(json_log)
    assert (line["status"], line["user_agent"]) == (200, r"\udcff\udcfe")
    assert line["timestamp"].startswith("20")


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "console"])
@pytest.mark.usefixtures("json_log")
async def test_access_line_has_no_character_that_commands_a_terminal(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    logs.configure(level="INFO", json=as_json)
    client = await aiohttp_client(create_app())
    commands = "\u009b31m", "\u202e", "\u2028", "\u200f", "\U000e0041"
    for command in commands:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(f"GET /livez HTTP/1.0\r\nUser-Agent: {command}\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        writer.close()
    await client.close()
    lines = written.getvalue().decode().splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(bool(re.search(r'status"?[:=]200', line)) for line in lines) == len(commands)


async def test_log_level_silences_the_access_log_while_connections_are_open(
    json_log: io.BytesIO, client: Client
) -> None:
    logs.set_level("WARNING")
    async with client.get("/silenced"):
        pass
    logs.set_level("INFO")
    async with client.get("/logged"):  # on the same connection
        pass
    await client.close()
    assert [line["path"] for line in access_lines(json_log)] == ["/logged"]


async def test_access_line_that_fails_is_logged_and_does_not_break_the_connection(
    json_log: io.BytesIO, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "route_name", None)
    for _ in range(2):
        async with client.get("/livez") as response:
            assert response.status == 200
    await client.close()
    assert "the access line failed" in json_log.getvalue().decode()


async def test_request_whose_client_leaves_is_logged_as_cancelled(
    json_log: io.BytesIO, aiohttp_client: AiohttpClient
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
    await until(waiting.is_set)
    writer.transport.abort()
    await until(lambda: b"cancelled: GET /wait" in json_log.getvalue())
