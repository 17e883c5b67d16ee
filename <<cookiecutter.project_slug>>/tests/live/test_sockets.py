import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import ClientWSTimeout, WSMsgType, hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.live import BUS, EVERYBODY, bus, sockets
from package_name.live.bus import Bus

from ..helpers import TIMEOUT, Client, own, run_due_callbacks, until

# % endfilter
HANDSHAKE = {
    hdrs.CONNECTION: "Upgrade",
    hdrs.UPGRADE: "websocket",
    hdrs.SEC_WEBSOCKET_VERSION: "13",
    hdrs.SEC_WEBSOCKET_KEY: "dGhlIHNhbXBsZSBub25jZQ==",
    hdrs.SEC_WEBSOCKET_PROTOCOL: f"other, {sockets.PROTOCOL}",
}


def connect(client: Client, path: str = "/live", **options: Any) -> Any:
    timeout = ClientWSTimeout(ws_receive=TIMEOUT, ws_close=TIMEOUT)
    return client.ws_connect(path, protocols=(sockets.PROTOCOL,), timeout=timeout, **options)


def bus_of(client: Client) -> Bus:
    assert client.app
    return client.app[BUS]


def visitors(client: Client) -> int:
    return len(bus_of(client)._subscriptions.get(EVERYBODY, ()))


async def ping(ws: Any) -> None:
    """Send a message of the subprotocol, and wait for its reply."""
    await ws.send_json({"type": "ping"})
    assert await ws.receive_json() == {"type": "pong"}


async def test_all_visitors_receive_all_messages_in_order(client: Client) -> None:
    async with connect(client) as one, connect(client, headers=own(client)) as two:
        assert one.protocol == sockets.PROTOCOL
        for number in range(100):
            await bus_of(client).publish(EVERYBODY, {"type": "number", "number": number})
        for ws in (one, two):
            numbers = [(await ws.receive_json())["number"] for _ in range(100)]
            assert numbers == list(range(100))
    await until(lambda: visitors(client) == 0)


@pytest.mark.parametrize("method", [hdrs.METH_GET, hdrs.METH_HEAD])
async def test_foreign_origin_is_rejected(client: Client, method: str) -> None:
    foreign = HANDSHAKE | {hdrs.ORIGIN: "https://evil.example"}
    async with client.request(method, "/live", headers=foreign) as response:
        assert response.status == 403
    assert visitors(client) == 0


async def test_head_is_not_allowed(client: Client) -> None:
    async with client.head("/live", headers=HANDSHAKE | own(client)) as response:
        assert response.status in {404, 405}  # 404 if a catch-all route exists


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {hdrs.SEC_WEBSOCKET_PROTOCOL: sockets.PROTOCOL},
        HANDSHAKE | {hdrs.SEC_WEBSOCKET_PROTOCOL: "live.v2"},
    ],
    ids=["no handshake", "no upgrade", "other subprotocol"],
)
async def test_invalid_handshake_gets_400(client: Client, headers: dict[str, str]) -> None:
    async with client.get("/live", headers=headers) as response:
        assert response.status == 400
    assert visitors(client) == 0


async def test_ping_message_gets_a_pong_message(client: Client) -> None:
    async with connect(client) as ws:
        for _ in range(3):
            await ping(ws)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("hello", 1008),
        ('{"type":"pong"}', 1008),
        (b'{"type":"ping"}', 1003),
        ('{"type":"ping"}'.ljust(sockets.MAX_SIZE + 1), 1009),
    ],
    ids=["no JSON", "not a ping", "binary", "too large"],
)
async def test_invalid_message_closes_the_socket(
    client: Client, sent: str | bytes, code: int
) -> None:
    async with connect(client) as ws:
        await (ws.send_str(sent) if isinstance(sent, str) else ws.send_bytes(sent))
        assert (await ws.receive()).type is WSMsgType.CLOSE
        assert ws.close_code == code


@pytest.mark.parametrize("kind", ["ping", "pong", "text"])
async def test_client_that_floods_is_cut_off(client: Client, kind: str) -> None:
    received = 0
    async with connect(client, autoping=False) as ws:
        with suppress(ConnectionError):
            for _ in range(sockets.MAX_MESSAGES + 2):
                if kind == "text":
                    await ws.send_str('{"type":"ping"}')
                else:
                    await getattr(ws, kind)()
        while (message := await ws.receive()).type in {WSMsgType.TEXT, WSMsgType.PONG}:
            received += 1
        assert received <= sockets.MAX_MESSAGES
        assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR}
    await until(lambda: visitors(client) == 0)


async def test_client_may_send_many_messages_in_a_longer_time(
    client: Client, advance: Callable[[float], None]
) -> None:
    async with connect(client) as ws:
        for _ in range(3):
            for _ in range(sockets.MAX_MESSAGES - 10):
                await ws.send_str('{"type":"ping"}')
            for _ in range(sockets.MAX_MESSAGES - 10):
                assert await ws.receive_json() == {"type": "pong"}
            advance(sockets.PATIENCE)


async def test_pings_are_answered(client: Client) -> None:
    async with connect(client, autoping=False) as ws:
        await ws.ping(b"hello")
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"hello")


def connection_of(client: Client, peer: socket.socket) -> asyncio.Transport:
    """Return the server's side of a connection."""
    (transport,) = (
        each.transport
        for each in client.server.handler.connections
        if each.transport and each.transport.get_extra_info("peername") == peer.getsockname()
    )
    return transport


async def connect_without_reading(client: Client) -> socket.socket:
    """Return a connection with a completed handshake and small buffers."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setblocking(False)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(raw, ("127.0.0.1", client.port))
    lines = ["GET /live HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in HANDSHAKE.items())]
    await loop.sock_sendall(raw, "\r\n".join([*lines, "", ""]).encode())
    assert (await loop.sock_recv(raw, 4096)).startswith(b"HTTP/1.1 101 ")
    server_side = connection_of(client, raw).get_extra_info("socket")
    server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return raw


async def test_client_that_does_not_read_is_dropped_and_delays_nobody(
    client: Client, advance: Callable[[float], None]
) -> None:
    readers = [await connect(client) for _ in range(3)]
    await until(lambda: visitors(client) == 3)
    subscriptions = bus_of(client)._subscriptions[EVERYBODY]
    of_readers = set(subscriptions)
    number = 0

    async def publish() -> None:
        nonlocal number
        number += 1
        await bus_of(client).publish(EVERYBODY, {"n": number, "text": "x" * 60_000})
        assert [(await reader.receive_json())["n"] for reader in readers] == [number] * 3

    with await connect_without_reading(client) as raw:
        await until(lambda: visitors(client) == 4)
        connection = connection_of(client, raw)
        (subscription,) = subscriptions - of_readers
        while subscription._waiting.qsize() < 2:  # until a message cannot be sent
            await publish()
        assert visitors(client) == 4
        for _ in "sending a message", "the closing handshake":
            advance(sockets.PATIENCE)
            await run_due_callbacks()
        await until(lambda: visitors(client) == 3)
        await until(lambda: len(client.server.handler.connections) == 3)
        assert connection.is_closing()
    await publish()
    for reader in readers:
        await reader.close()
    await until(lambda: visitors(client) == 0)


@pytest.mark.parametrize("limit", ["time", "messages"])
async def test_client_that_reads_too_slowly_gets_close_code_1013(
    client: Client,
    advance: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    if limit == "messages":
        monkeypatch.setattr(bus, "MAX_WAITING", 20)
    async with connect(client) as ws:  # reads slightly ahead, and no more
        await until(lambda: visitors(client) == 1)
        (subscription,) = bus_of(client)._subscriptions[EVERYBODY]
        sent = 0
        while not subscription._missed and subscription._waiting.qsize() < 50:
            await bus_of(client).publish(EVERYBODY, {"n": sent, "text": "x" * 60_000})
            sent += 1
        if limit == "time":
            advance(sockets.PATIENCE)
            await run_due_callbacks()
        received = [message.json()["n"] async for message in ws]
        assert received == list(range(len(received)))
        assert 0 < len(received) < sent
        assert bool(subscription._missed) is (limit == "messages")
        assert ws.close_code == 1013


async def test_server_that_stops_closes_sockets_with_1001_and_refuses_new_ones(
    client: Client,
) -> None:
    assert client.app
    async with connect(client) as ws:
        await client.app.shutdown()
        assert (await ws.receive()).type is WSMsgType.CLOSE
        assert ws.close_code == 1001
    async with client.get("/live", headers=HANDSHAKE) as response:
        assert response.status == 503


async def test_client_that_does_not_answer_a_heartbeat_is_dropped(
    client: Client, advance: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    received = []
    data_received = web.RequestHandler.data_received

    def record(self: web.RequestHandler, data: bytes) -> None:
        received.append(data)
        data_received(self, data)

    async with connect(client, autoping=False) as alive, connect(client, autoping=False) as silent:
        for ws in (alive, silent):
            await ping(ws)
        advance(sockets.HEARTBEAT)
        for ws in (alive, silent):
            assert (await ws.receive()).type is WSMsgType.PING
        monkeypatch.setattr(web.RequestHandler, "data_received", record)
        await alive.pong()
        await until(lambda: received)
        advance(sockets.HEARTBEAT / 2)
        assert (await silent.receive()).type is WSMsgType.CLOSED
        await until(lambda: visitors(client) == 1)
        await ping(alive)


@pytest.fixture
async def greeting(aiohttp_client: AiohttpClient) -> Client:
    """Return a client of an application that sends a message at /once, and waits at /forever."""

    async def greet(*, forever: bool) -> AsyncIterator[str]:
        yield "hello"
        if forever:
            await asyncio.Event().wait()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        forever = request.path == "/forever"
        return await sockets.stream(request, greet(forever=forever), lifetime=60)

    app = create_app()
    for path in ("/once", "/forever"):
        app.router.add_get(path, handler)
    return await aiohttp_client(app)


async def test_stream_closes_with_1000_after_the_last_message(greeting: Client) -> None:
    async with connect(greeting, "/once") as ws:
        assert await ws.receive_json() == "hello"
        assert (await ws.receive()).type is WSMsgType.CLOSE
        assert ws.close_code == 1000


async def test_stream_closes_with_1008_after_its_lifetime(
    greeting: Client, advance: Callable[[float], None]
) -> None:
    async with connect(greeting, "/forever") as ws:
        assert await ws.receive_json() == "hello"
        advance(59)
        await ping(ws)
        advance(1)
        assert (await ws.receive()).type is WSMsgType.CLOSE
        assert ws.close_code == 1008


@pytest.mark.parametrize("cause", ["client aborts", "handler is cancelled", "network fails"])
async def test_broken_connection_leaves_no_task_and_no_subscription(
    client: Client, cause: str
) -> None:
    def tasks() -> int:
        return sum(sockets.__file__ in repr(task) for task in asyncio.all_tasks())

    ws = await connect(client)
    await until(lambda: tasks() == 3)
    (connection,) = client.server.handler.connections
    assert connection.transport
    assert connection._task_handler
    if cause == "client aborts":
        ws._response.connection.transport.abort()
    elif cause == "handler is cancelled":
        connection._task_handler.cancel()
    else:
        connection.transport.abort()
        await bus_of(client).publish(EVERYBODY, "hello")
    await until(lambda: visitors(client) == tasks() == 0)
    await until(lambda: not client.server.handler.connections)
    await ws.close()
