import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from math import inf
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpClient
from structlog.testing import LogCapture

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.live import sockets
from package_name.web import connection, shutdown
from package_name.web.connection import HALF_CLOSED_TIMEOUT
from package_name.web.shutdown import Runner

from ..helpers import TIMEOUT, Client, run_due_callbacks, until
from .helpers import echo, raw_status


# % endfilter
async def test_handler_args_reach_the_protocol_of_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEPALIVE_TIMEOUT", "12.5")
    server = TestServer(create_app())
    await server.start_server()
    assert server.runner
    assert server.runner.server
    assert server.runner.server.handler_cancellation
    protocol = server.runner.server()
    assert protocol.keepalive_timeout == 12.5
    assert protocol._timeout_ceil_threshold == 60
    await server.close()


async def test_request_head_not_complete_within_keepalive_timeout_closes_the_connection(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    advance: Callable[[float], None],
) -> None:
    monkeypatch.setenv("KEEPALIVE_TIMEOUT", "20")
    client = await aiohttp_client(create_app())
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    assert client.server
    assert client.server.runner
    server = client.server.runner.server
    assert server
    await until(lambda: server.connections)
    for byte in b"GET /":  # each byte arrives in time, but does not extend the limit
        writer.write(bytes([byte]))
        for _ in range(3):
            await asyncio.sleep(0)
        advance(5)
    async with asyncio.timeout(TIMEOUT):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: localhost", 404),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 9000, 400),
        (b"GET / HTTP/1.1\r\nHost: localhost" + b"\r\nX: y" * 200, 400),
    ],
    ids=["long URL", "overlong URL", "overlong header", "too many headers"],
)
async def test_overlong_url_or_headers_get_400(client: Client, head: bytes, status: int) -> None:
    assert await raw_status(client, head + b"\r\n\r\n") == status


LARGE = 20 * 1024**2
"""Size in bytes that exceeds the buffers of sockets."""


class Served:
    """An application on a TCP port and a Unix socket, under the runner that both servers use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests = 0
        """Number of requests. /held waits for a turn, and /stream sends one byte per turn."""
        self.turns = asyncio.Semaphore(0)

    async def held(self, _request: web.Request) -> web.Response:
        self.requests += 1
        await self.turns.acquire()
        return web.Response(text="held")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(3):
            await response.write(b"x")
            await self.turns.acquire()
        return response

    async def target(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{request.scheme}://{request.host}")

    async def large(self, _request: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(body=bytes(LARGE))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = create_app()
        app.router.add_get("/held", self.held)
        app.router.add_get("/large", self.large)
        app.router.add_get("/stream", self.stream)
        app.router.add_get("/target", self.target)
        app.router.add_post("/echo", echo)
        runner = Runner(app)
        await runner.setup()
        self.tcp = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, self.tcp).start()
        await web.UnixSite(runner, self.path).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def send(
        self, kind: str, sent: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, and send requests that lack the header Host."""
        if kind == "unix":
            reader, writer = await asyncio.open_unix_connection(self.path)
        else:
            reader, writer = await asyncio.open_connection(*self.tcp.getsockname())
        writer.write(sent.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nHost: localhost\r\n"))
        return reader, writer


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path / "server.sock")
    async with served.running():
        yield served


@pytest.fixture
def _no_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never cancel a handler because time has passed."""
    monkeypatch.setattr(connection, "HALF_CLOSED_TIMEOUT", inf)


GET = b"GET /held HTTP/1.1\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nOrigin: http://localhost\r\n"
HANDSHAKE = (
    b"GET /live HTTP/1.1\r\nOrigin: http://localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: live.v1\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.usefixtures("_no_timeout")
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize(
    ("sent", "bodies"),
    [
        (GET, [b"held"]),
        (b"GET /held HTTP/1.0\r\nHost: localhost\r\n\r\n", [b"held"]),
        (GET + GET + GET, [b"held"] * 3),
        (POST + b"Content-Length: 4\r\n\r\nbody", [b"body"]),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", [b"body"]),
    ],
    ids=["GET", "HTTP/1.0", "pipelined", "POST", "chunked"],
)
async def test_half_closed_client_gets_its_responses(
    served: Served, kind: str, sent: bytes, bodies: list[bytes]
) -> None:
    reader, writer = await served.send(kind, sent)
    with closing(writer):
        writer.write_eof()
        if b"/held" in sent:
            await until(lambda: served.requests)
            await run_due_callbacks()
        for _ in bodies:
            served.turns.release()
        async with asyncio.timeout(TIMEOUT):
            responses = (await reader.read()).split(b"HTTP/1.")[1:]
    assert [response.split()[1] for response in responses] == [b"200"] * len(bodies)
    assert [response.partition(b"\r\n\r\n")[2] for response in responses] == bodies


@pytest.mark.usefixtures("_no_timeout")
@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /held HT", POST + b"Content-Length: 9\r\n\r\nbody"],
    ids=["nothing", "head", "body"],
)
async def test_client_that_closes_in_mid_request_is_disconnected(
    served: Served, sent: bytes
) -> None:
    reader, writer = await served.send("tcp", sent)
    with closing(writer):
        writer.write_eof()
        async with asyncio.timeout(TIMEOUT):
            assert await reader.read() == b""


@pytest.mark.usefixtures("_no_timeout")
async def test_websocket_is_closed_when_the_client_stops_sending(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "HEARTBEAT", 10 * TIMEOUT)  # the heartbeat would detect it, too
    reader, writer = await served.send("tcp", HANDSHAKE)
    with closing(writer):
        async with asyncio.timeout(TIMEOUT):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            writer.write_eof()
            await reader.read()


@pytest.mark.usefixtures("_no_timeout")
@pytest.mark.parametrize("protocol", ["websocket", "h2c", "other"])
async def test_half_closed_client_gets_the_response_to_an_upgrade_that_is_not_accepted(
    served: Served, protocol: str
) -> None:
    head = f"GET /held HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
    own = b"Origin: http://localhost\r\n\r\n"
    reader, writer = await served.send("tcp", head.encode() + own)
    with closing(writer):
        writer.write_eof()
        await until(lambda: served.requests)
        await run_due_callbacks()
        served.turns.release()
        async with asyncio.timeout(TIMEOUT):
            assert (await reader.read()).endswith(b"\r\n\r\nheld")


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"GET http://example.com:81/target?a", b"", 200),
        (b"GET http://example.com?a", b"evil.example", 200),
        (b"GET HTTP://EXAMPLE.COM./target", b"evil.example", 200),
        (b"GET http://xn--fiqs8s/target", b"localhost", 200),
        (b"GET http://xn--a/target", b"localhost", 421),
        (b"GET http://evil.example/target", b"localhost", 421),
        (b"GET http://[::1]:80/target", b"localhost", 200),
        (b"GET http://[::2]/target", b"localhost", 421),
        (b"GET http://user@localhost/target", b"localhost", 400),
        (b"GET http://%E4%B8%AD/target", b"localhost", 400),
        (b"GET http://" + b"x" * 8000 + b"/target", b"localhost", 400),
        (b"GET http://localhost/target", b"not a host", 400),
        (b"GET http://localhost:99999/target", b"localhost", 400),
        (b"GET http:///target", b"localhost", 400),
        (b"GET http://[/target", b"localhost", 400),
        (b"CONNECT xn--a:80", b"localhost", 421),
        (b"CONNECT localhost:80", b"localhost", 405),
        (b"CONNECT user@localhost:80", b"localhost", 400),
        (b"CONNECT /target", b"localhost", 400),
    ],
)
async def test_host_in_the_target_replaces_host(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    access_log: LogCapture,
    target: bytes,
    host: bytes,
    status: int,
) -> None:
    """Host may have any value then; the request is served and logged (RFC 9112, section 3.2.2)."""
    monkeypatch.setenv("ALLOWED_HOSTS", "example.com, localhost, [::1], xn--fiqs8s")
    served = Served(tmp_path / "server.sock")
    async with served.running():
        head = target + b" HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n"
        reader, writer = await asyncio.open_connection(*served.tcp.getsockname())
        with closing(writer):
            writer.write(head)
            async with asyncio.timeout(TIMEOUT):
                response = await reader.read()
    assert int(response.split()[1]) == status, response
    if status == 200 and b"/target" in target:
        authority = target.split(b"/")[2]
        assert response.partition(b"\r\n\r\n")[2] == b"http://" + authority
    assert [line["status"] for line in access_log.entries] == [status]


async def test_target_with_a_host_is_the_site_of_a_form(served: Served) -> None:
    for origin, status in ((b"http://localhost:8080", b"200"), (b"http://localhost", b"403")):
        head = b"POST http://localhost:8080/echo HTTP/1.1\r\nConnection: close\r\nOrigin: " + origin
        reader, writer = await served.send("tcp", head + b"\r\nContent-Length: 0\r\n\r\n")
        with closing(writer):
            async with asyncio.timeout(TIMEOUT):
                assert (await reader.read()).split()[1] == status


async def test_connection_whose_task_fails_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("of a test")

    monkeypatch.setattr(shutdown, "in_origin_form", fail)
    reader, writer = await served.send("tcp", GET)
    with closing(writer):
        async with asyncio.timeout(TIMEOUT):
            assert await reader.read() == b""
    assert "a connection has failed" in caplog.text


@pytest.mark.usefixtures("_no_timeout")
@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_handler_is_cancelled_when_the_client_disconnects(
    served: Served, caplog: pytest.LogCaptureFixture, kind: str, half_closed: bool
) -> None:
    """Over TCP only a reset does it: other clients may still wait for the response."""
    caplog.set_level(logging.INFO)
    _, writer = await served.send(kind, GET)
    await until(lambda: served.requests)
    if half_closed:
        writer.write_eof()
        await run_due_callbacks()
        assert "cancelled" not in caplog.text
    if kind == "tcp":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()
    await until(lambda: "cancelled: GET /held" in caplog.text)


async def test_handler_of_a_silent_half_closed_client_is_cancelled_after_the_timeout(
    served: Served, caplog: pytest.LogCaptureFixture, advance: Callable[[float], None]
) -> None:
    caplog.set_level(logging.INFO)
    _, writer = await served.send("tcp", GET)
    await until(lambda: served.requests)
    writer.close()
    await run_due_callbacks()
    assert "cancelled" not in caplog.text

    def cancelled() -> bool:
        advance(1)
        return "cancelled: GET /held" in caplog.text

    await until(cancelled)


async def test_half_closed_client_gets_a_response_that_makes_progress(
    served: Served, advance: Callable[[float], None]
) -> None:
    reader, writer = await served.send("tcp", b"GET /stream HTTP/1.1\r\n\r\n")
    with closing(writer):
        writer.write_eof()
        async with asyncio.timeout(TIMEOUT):
            await reader.readuntil(b"x")
            for _ in range(2):
                advance(HALF_CLOSED_TIMEOUT - 1)
                await run_due_callbacks()
                served.turns.release()
                await reader.readuntil(b"x")
            served.turns.release()
            assert await reader.read() == b"\r\n0\r\n\r\n"


async def test_half_closed_client_may_read_slowly(
    served: Served, advance: Callable[[float], None]
) -> None:
    reader, writer = await served.send("tcp", b"GET /large HTTP/1.1\r\n\r\n")
    with closing(writer):
        writer.write_eof()
        await until(lambda: served.requests)
        for _ in range(3):
            await run_due_callbacks()
            advance(HALF_CLOSED_TIMEOUT)
        async with asyncio.timeout(TIMEOUT):
            await reader.readuntil(b"\r\n\r\n")
            assert len(await reader.read()) == LARGE
