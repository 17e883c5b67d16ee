import asyncio
import logging
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp_devtools.runserver import serve
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import dev, logs
from package_name.web import body_log

from .helpers import TIMEOUT, until
from .web.helpers import raw_status

# % endfilter
# The debug toolbar stores its state under a string key. aiohttp warns once per process, so
# any test may get the warning.
pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")


@pytest.fixture(autouse=True)
def _no_configuration_of_this_process(monkeypatch: pytest.MonkeyPatch, development: None) -> None:
    monkeypatch.setattr(logs, "configure", lambda **_: None)
    monkeypatch.setattr(serve, "HOST", serve.HOST)


async def test_development_policy_allows_live_reload_and_the_toolbar(
    aiohttp_client: AiohttpClient,
) -> None:
    client = await aiohttp_client(dev.app_factory())
    async with client.get("/") as response:
        policy = response.headers["Content-Security-Policy"]
        assert client.port
        assert f"script-src 'self' http://127.0.0.1:{client.port + 1}" in policy
        assert "_debugtoolbar" in await response.text()
    async with client.get("/_debugtoolbar") as response:
        assert response.status == 200
        assert "Content-Security-Policy" not in response.headers
    style = "/_debugtoolbar/static/css/toolbar_button.css"
    async with client.get(style) as response:
        known = {"If-None-Match": response.headers["ETag"]}
    async with client.get(style, headers=known) as response:
        assert response.status == 304


@pytest.mark.parametrize(("host", "status"), [("xn--a", 421), ("[", 400), ("localhost:", 200)])
async def test_development_server_answers_requests_for_any_host(
    aiohttp_client: AiohttpClient, host: str, status: int
) -> None:
    client = await aiohttp_client(dev.app_factory())
    assert await raw_status(client, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()) == status


async def test_development_server_logs_small_json_bodies_and_handlers_still_read_them(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = dev.app_factory()
    app.router.add_post("/echo", echo)
    client = await aiohttp_client(app)
    caplog.set_level(logging.INFO, body_log.__name__)
    large = "x" * 5000
    for options, body in (
        ({"json": {"a": 1}}, '{"a": 1}'),
        ({"data": {"password": "secret"}}, "password=secret"),
        ({"json": large}, f'"{large}"'),
    ):
        async with client.post("/echo", **options) as response:
            assert await response.text() == body
    records = [record for record in caplog.records if record.name == body_log.__name__]
    assert [vars(record)["body"] for record in records] == ['{"a": 1}']


def test_development_server_refuses_the_production_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(SystemExit, match="for production"):
        dev.app_factory()


@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed"])
async def test_development_server_logs_what_ruff_finds_and_ends_it(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    killed: bool,
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "first.py").write_text("first_mistake\n")
    monkeypatch.setattr(dev, "__file__", str(source / "dev.py"))
    processes: list[Process] = []
    create = asyncio.create_subprocess_exec

    async def record(*command: Any, **options: Any) -> Process:
        processes.append(await create(*command, **options))
        return processes[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", record)
    client = await aiohttp_client(dev.app_factory())
    (process,) = processes
    await until(lambda: "first.py:1:1: F821 Undefined name `first_mistake`" in caplog.text)
    (source / "second.py").write_text("second_mistake\n")
    await until(lambda: "second.py:1:1: F821 Undefined name `second_mistake`" in caplog.text)
    if killed:
        process.kill()
        await process.wait()
    assert (process.returncode is not None) is killed
    async with asyncio.timeout(TIMEOUT):
        await client.close()
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    messages = [record.message for record in caplog.records if record.name == dev.__name__]
    assert all(".py:1:1: " in message for message in messages)  # no messages from ruff itself


@pytest.mark.parametrize("taken", [0, 1], ids=["main", "live reload"])
def test_development_server_names_the_port_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    port = free_ports()
    monkeypatch.setattr(sys, "argv", ["dev"])
    monkeypatch.setenv("PORT", str(port))
    with socket.create_server(("127.0.0.1", port + taken)), pytest.raises(SystemExit) as error:
        dev.main()
    assert re.fullmatch(
        rf"Cannot listen on 127\.0\.0\.1:{port + taken} for .*: Address already in use; choose"
        " another PORT, for example `make dev PORT=8090`",
        str(error.value),
    )


def test_development_server_needs_a_port_after_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["dev", "--port=65535"])
    with pytest.raises(SystemExit, match=r"127\.0\.0\.1:65536 for live reload"):
        dev.main()


def test_development_server_listens_for_others_only_if_they_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    with pytest.raises(SystemExit, match=r"Cannot listen on 0\.0\.0\.0:8080, .* DEV_ALLOW="):
        dev.app_factory()


def own_address() -> str | None:
    """Return the network address of this machine, or None if it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    return None


def free_ports() -> int:
    """Return a free TCP port whose successor is free too."""
    while True:
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            second.bind(("127.0.0.1", port + 1))
            return port


async def answers(address: str | None, port: int, path: str) -> bool:
    """Return True if a request to an address, from the same address, gets any response."""
    with suppress(ConnectionError):
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answered = bool(await reader.read(1))
        writer.close()
        return answered
    return False


@pytest.mark.skipif(own_address() is None, reason="this machine lacks a network")
@pytest.mark.parametrize("allowed", ["others", "own"])
async def test_development_server_answers_other_hosts_only_if_their_network_is_allowed(
    tmp_path: Path, allowed: str
) -> None:
    port = free_ports()
    networks = {"others": "203.0.113.0/24", "own": f"{own_address()}/32"}
    local = {"PORT": str(port), "HOST": "0.0.0.0"}
    local |= {"DEV_ALLOW": networks[allowed], "UPLOAD_FOLDER": str(tmp_path)}
    command = [sys.executable, "-m", dev.__name__]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=Path(__file__).parent.parent,
        env=os.environ | local,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        urls = [(port, "/livez"), (port, "/_debugtoolbar"), (port + 1, "/livereload.js")]
        for url in urls:
            async with asyncio.timeout(TIMEOUT):
                while not await answers("127.0.0.1", *url):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
        found = {await answers(own_address(), *url) for url in urls}
        assert found == {allowed == "own"}
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()
