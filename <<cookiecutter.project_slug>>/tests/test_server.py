import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

# % filter replace("package_name", cookiecutter.package_name)
from package_name import logs, server
from package_name.app import create_app
from package_name.settings import Settings, load_settings
from package_name.web.shutdown import DRAINING

from .helpers import (
    GUNICORN,
    STANDALONE,
    TIMEOUT,
    is_listening,
    json_lines,
    no_file_descriptors,
    run_due_callbacks,
    running,
    session,
    until,
)

# % endfilter
HOST = "127.0.0.1"
SERVERS = {
    "standalone": [*STANDALONE, "--path", "server.sock"],
    "gunicorn with asyncio": [
        *(*GUNICORN, "--bind", "unix:server.sock"),
        *("--worker-class", "aiohttp.GunicornWebWorker"),
    ],
    "gunicorn with uvloop": [*GUNICORN, "--bind", "unix:server.sock"],
}


@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
async def test_server_process_responds_logs_and_stops_on_sigterm(
    command: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "server.sock"
    with running(command, path, WEB_CONCURRENCY="1") as process:
        async with session(path) as client, client.get("/") as response:
            assert response.status == 200
            request_id = response.headers["X-Request-ID"]
        process.send_signal(signal.SIGTERM)
        stdout, stderr = await asyncio.to_thread(process.communicate, timeout=TIMEOUT)
    assert process.returncode == 0
    assert stderr == ""
    assert "Error" not in stdout
    (access,) = [line for line in json_lines(stdout) if line["logger"] == "access"]
    assert access["request_id"] == request_id
    assert access["client"] == "unix"
    assert set(access) == {
        *("event", "level", "logger", "timestamp", "request_id", "client", "method", "path"),
        *("scheme", "route", "status", "bytes", "duration_ms", "user_agent"),
    }


async def test_exhausted_file_descriptors_are_500_and_logged_not_404(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    statuses = []
    with running(SERVERS["standalone"], path) as process:
        async with session(path) as client:

            async def get(name: str) -> None:
                async with client.get(f"/static/{name}") as response:
                    statuses.append(response.status)
                    await response.read()  # otherwise the connection could not be reused

            await get("site.css")  # on a connection that stays open
            with no_file_descriptors(process.pid):
                await get("site.css")
                await get("favicon.svg")  # not read before
                await get("missing.css")
            await get("site.css")
        process.send_signal(signal.SIGTERM)
        stdout, _ = await asyncio.to_thread(process.communicate, timeout=TIMEOUT)
    assert statuses == [200, 500, 500, 404, 200]
    errors = [line for line in json_lines(stdout) if line["level"] == "error"]
    assert len(errors) == 2
    for line in errors:
        assert "Too many open files" in line["exception"]


@asynccontextmanager
async def serving(path: Path, *others: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run serve() in this process; a signal to the process stops it."""
    task = asyncio.create_task(server.serve(load_settings(), *others, f"unix:{path}"))
    await until(lambda: task.done() or is_listening(path))
    yield task
    async with asyncio.timeout(TIMEOUT):
        await task


@pytest.fixture
def _no_logging_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda **_: None)


@pytest.mark.usefixtures("_no_logging_configuration")
async def test_serve_listens_on_a_port_and_a_socket_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, server.__name__)
    path = tmp_path / "server.sock"
    async with serving(path, f"{HOST}:0"):
        tcp, unix = (each.message.removeprefix("listening on ") for each in caplog.records)
        assert unix == f"http://unix:{path}:"
        async with ClientSession() as client, client.get(f"{tcp}/livez") as response:
            assert response.status == 200
        async with session(path) as client, client.get("/livez") as response:
            assert response.status == 200
        os.kill(os.getpid(), signal.SIGTERM)
    assert not path.exists()


@pytest.mark.usefixtures("_no_logging_configuration")
async def test_serve_replaces_the_socket_of_a_server_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serving(path):
        async with session(path) as client, client.get("/livez") as response:
            assert response.status == 200
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("_no_logging_configuration")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
async def test_serve_finishes_a_request_in_flight_before_it_stops(
    advance: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    started, finish = asyncio.Event(), asyncio.Event()
    apps = []

    async def slow(_request: web.Request) -> web.Response:
        started.set()
        await finish.wait()
        return web.Response(text="finished")

    def create_slow_app(settings: Settings) -> web.Application:
        apps.append(create_app(settings))
        apps[0].router.add_get("/slow", slow)
        return apps[0]

    monkeypatch.setenv("GRACEFUL_TIMEOUT", "30")
    monkeypatch.setattr(server, "create_app", create_slow_app)
    path = tmp_path / "server.sock"
    async with serving(path) as server_task, session(path) as client:
        response = asyncio.create_task(client.get("/slow"))
        await until(started.is_set)
        os.kill(os.getpid(), number)
        await until(lambda: not is_listening(path))
        await until(apps[0][DRAINING].is_set)
        advance(20)
        await run_due_callbacks()
        stopped_early = server_task.done()
        finish.set()
        assert await (await response).text() == "finished"
        assert not stopped_early
