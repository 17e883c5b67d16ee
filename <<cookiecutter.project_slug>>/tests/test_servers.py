import asyncio
import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import aiojobs.aiohttp
import pytest
from aiohttp import ClientSession, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import logs, server
from package_name.__main__ import main
from package_name.app import create_app
from package_name.live import BUS
from package_name.settings import Settings, load_settings

from .helpers import GUNICORN, STANDALONE, json_lines, running, session, wait_for_socket

# % endfilter
WORKERS = ["aiohttp.GunicornWebWorker", "aiohttp.GunicornUVLoopWebWorker"]


def commands(path: Path) -> dict[str, list[str]]:
    gunicorn = [*GUNICORN, "--bind", f"unix:{path}"]
    return {
        "standalone": [*STANDALONE, "--path", str(path)],
        "asyncio": [*gunicorn, "--worker-class", WORKERS[0]],
        "uvloop": [*gunicorn, "--worker-class", WORKERS[1]],
    }


@pytest.mark.parametrize("kind", ["standalone", "asyncio", "uvloop"])
async def test_it_serves_logs_and_stops(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with running(commands(path)[kind], path) as process:
        async with session(path) as client, client.get("/") as response:
            assert response.status == 200
            request_id = response.headers["X-Request-ID"]
        process.send_signal(signal.SIGTERM)
        stdout, stderr = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 0
    assert stderr == ""
    (access,) = [line for line in json_lines(stdout) if line["logger"] == "access"]
    assert access["request_id"] == request_id
    assert access["client"] == "unix"
    assert set(access) == {
        *("event", "level", "logger", "timestamp", "request_id", "client", "method", "path"),
        *("scheme", "route", "status", "bytes", "duration_ms", "user_agent"),
    }


async def test_standalone_serves_a_port_and_a_socket_at_once(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with running([*STANDALONE, "--port", "0", "--path", str(path)], path) as process:
        assert process.stdout
        first = json.loads(process.stdout.readline())["event"]
        assert first.startswith("listening on http://127.0.0.1:")
        async with ClientSession() as tcp, tcp.get(first.split()[-1] + "/livez") as response:
            assert response.status == 200
        async with session(path) as unix, unix.get("/livez") as response:
            assert response.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


def refusal(*arguments: str) -> str:
    done = subprocess.run(
        [*STANDALONE, *arguments], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--port={port}"])
    assert "--port" in capsys.readouterr().err


def test_addresses_in_use_are_refused_and_left_alone(tmp_path: Path) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(str(tmp_path / "used.sock"))
        unix.listen()
        assert "Cannot listen" in refusal("--port", str(tcp.getsockname()[1]))
        assert "another server listens" in refusal("--path", str(tmp_path / "used.sock"))
        assert (tmp_path / "used.sock").is_socket()
    (tmp_path / "file").write_text("precious")
    assert "is no socket" in refusal("--path", str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    assert "Cannot listen" in refusal("--path", str(tmp_path / "no" / "folder"))


async def test_a_socket_left_behind_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with running([*STANDALONE, "--path", str(path)], path) as process:
        process.kill()
        process.wait()
    assert path.is_socket()
    with running([*STANDALONE, "--path", str(path)], path) as process:
        assert process.stdout
        while "listening" not in process.stdout.readline():
            pass
        async with session(path) as client, client.get("/livez") as response:
            assert response.status == 200
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0


async def test_a_request_under_way_is_finished_before_the_server_stops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        started.set()
        await finish.wait()
        return web.Response(text="finished")

    def create_slow_app(settings: Settings) -> web.Application:
        app = create_app(settings)
        app.router.add_get("/slow", slow)
        return app

    monkeypatch.setenv("GRACEFUL_TIMEOUT", "3")
    monkeypatch.setattr(server, "create_app", create_slow_app)
    monkeypatch.setattr(logs, "configure", lambda **_: None)
    path = tmp_path / "server.sock"
    serving = asyncio.create_task(server.serve(load_settings(), host=None, port=None, path=path))
    await asyncio.to_thread(wait_for_socket, path, serving.done)
    async with session(path) as client:
        answer = asyncio.create_task(client.get("/slow"))
        await started.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        with suppress(OSError):  # until it accepts nobody any more
            while True:
                async with session(path) as late, late.get("/livez"):
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # well within GRACEFUL_TIMEOUT
        assert not serving.done()
        finish.set()
        assert await (await answer).text() == "finished"
    await serving


async def test_a_handler_ends_with_its_client_but_shielded_work_does_not(
    aiohttp_client: AiohttpClient,
) -> None:
    started, cancelled, written = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def write() -> None:
        started.set()
        await asyncio.sleep(0.2)
        written.set()

    async def handler(request: web.Request) -> web.Response:
        try:
            await aiojobs.aiohttp.shield(request, write())
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return web.Response()

    app = create_app()
    app.router.add_get("/slow", handler)
    client = await aiohttp_client(app)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await started.wait()
    writer.transport.abort()
    async with asyncio.timeout(5):
        await cancelled.wait()
        assert not written.is_set()
        await written.wait()
    assert reader


async def test_work_that_outlives_a_request_outlives_it_before_the_bus_closes(
    aiohttp_client: AiohttpClient,
) -> None:
    received = []

    async def tell(request: web.Request) -> None:
        bus = request.app[BUS]
        async with bus.subscribe("told") as messages:
            await asyncio.sleep(0.3)
            await bus.publish("told", "in the end")
            received.append(await anext(messages))

    async def handler(request: web.Request) -> web.Response:
        await aiojobs.aiohttp.spawn(request, tell(request))
        return web.Response()

    app = create_app()
    app.router.add_get("/told", handler)
    client = await aiohttp_client(app)
    async with client.get("/told") as response:
        assert response.status == 200
    assert received == []
    await client.close()
    assert received == ["in the end"]
