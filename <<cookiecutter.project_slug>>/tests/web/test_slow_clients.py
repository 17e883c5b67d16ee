"""Clients that never read, and bodies in tiny chunks: the limits of web/connection.py."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web.connection import MAX_FRAMING
from package_name.web.shutdown import Runner

from ..helpers import TIMEOUT, run_due_callbacks, until
from .conftest import Timers
from .helpers import echo_app

# % endfilter
READ_TIMEOUT = 50
LARGE = 10 * 1024**2
POST = (
    b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)


def in_chunks(size: int, body: bytes, extension: bytes = b"") -> bytes:
    """Return a body in chunks of a size."""
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    head = b"%x" + extension + b"\r\n"
    return b"".join(head % len(chunk) + chunk + b"\r\n" for chunk in [*chunks, b""])


class Running:
    """An application on a Unix socket, under the runner that both servers use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runner = Runner(echo_app())
        self.runner.app.router.add_get("/large", large)

    def unsent(self) -> list[int]:
        """Return the number of buffered bytes for each client."""
        assert self.runner.server
        transports = [each.transport for each in self.runner.server.connections]
        return [each.get_write_buffer_size() for each in transports if each]


async def large(_request: web.Request) -> web.Response:
    return web.Response(body=bytes(LARGE))


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Running]:
    monkeypatch.setenv("READ_TIMEOUT", str(READ_TIMEOUT))
    running = Running(tmp_path / "server.sock")
    await running.runner.setup()
    await web.UnixSite(running.runner, running.path).start()
    yield running
    await running.runner.cleanup()


async def sent(running: Running, data: bytes) -> bytes:
    """Send bytes to a Unix socket, and return everything that is received until it is closed."""
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_unix_connection(running.path)
        writer.write(data)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("path", "header"),
    [(b"/echo", b"A: b"), (b"/nowhere", b"A: b"), (b"/echo", b"Content-Encoding: gzip")],
    ids=["read", "not found", "refused"],
)
@pytest.mark.parametrize(("size", "extension"), [(1, b""), (10, b""), (100, b";a=" + b"b" * 100)])
async def test_client_whose_chunks_are_too_small_is_cut_off(
    running: Running,
    caplog: pytest.LogCaptureFixture,
    path: bytes,
    header: bytes,
    size: int,
    extension: bytes,
) -> None:
    caplog.set_level(logging.INFO)
    head = (POST % path).replace(b"Connection", header + b"\r\nConnection")
    answer = await sent(running, head + in_chunks(size, bytes(500_000), extension))
    assert b"HTTP/1.1 200" not in answer
    assert "cut off a client whose chunks are too small" in caplog.text


@pytest.mark.parametrize("size", [1, 100, 65536])
async def test_chunked_body_is_read(running: Running, size: int) -> None:
    body = bytes(MAX_FRAMING // 6 if size == 1 else 500_000)
    answer = await sent(running, POST % b"/echo" + in_chunks(size, body))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n" + body)


REQUESTS = {
    "a large response": b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many small responses": b"GET /about HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000,
    "a response, and the end": (
        b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ),
}


@pytest.mark.parametrize("requests", REQUESTS.values(), ids=REQUESTS)
async def test_clients_that_never_read_are_cut_off(
    timers: Timers, running: Running, requests: bytes
) -> None:
    clients = [await asyncio.open_unix_connection(running.path) for _ in range(10)]
    for _, writer in clients:
        writer.write(requests)
    await until(lambda: len(running.unsent()) == 10 and all(running.unsent()))
    for _ in range(3):
        assert running.runner.server
        assert len(running.runner.server.connections) == 10
        await timers.fire(READ_TIMEOUT)
        await run_due_callbacks()
    await until(lambda: running.runner.server and not running.runner.server.connections)
    for _, writer in clients:
        writer.close()


async def test_client_that_closes_and_never_reads_is_cut_off(
    timers: Timers, running: Running
) -> None:
    """aiohttp closes an idle connection after a while, but waits for unsent data."""
    _, writer = await asyncio.open_unix_connection(running.path)
    writer.write(REQUESTS["a large response"])
    await until(lambda: any(running.unsent()))
    assert running.runner.server
    (connection,) = running.runner.server.connections
    connection.force_close()
    for _ in range(3):
        await timers.fire(READ_TIMEOUT)
        await run_due_callbacks()
    await until(lambda: running.runner.server and not running.runner.server.connections)
    writer.close()


async def test_client_that_reads_slowly_gets_the_whole_response(
    timers: Timers, running: Running
) -> None:
    reader, writer = await asyncio.open_unix_connection(running.path, limit=4096)
    writer.write(REQUESTS["a response, and the end"])
    await until(lambda: any(running.unsent()))
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + 100 * READ_TIMEOUT):
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        for _ in range(10):
            await timers.fire(READ_TIMEOUT)
            await run_due_callbacks()
            received += len(await reader.readexactly(300_000))
        received += len(await reader.read())
    assert received == LARGE
    writer.close()
