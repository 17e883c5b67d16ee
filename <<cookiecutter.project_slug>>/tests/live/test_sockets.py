import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import WSMsgType, hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.live import BUS, EVERYBODY, bus, sockets
from package_name.live.bus import Bus

from ..helpers import Client, own

# % endfilter
HANDSHAKE = {
    hdrs.CONNECTION: "Upgrade",
    hdrs.UPGRADE: "websocket",
    hdrs.SEC_WEBSOCKET_VERSION: "13",
    hdrs.SEC_WEBSOCKET_KEY: "dGhlIHNhbXBsZSBub25jZQ==",
    hdrs.SEC_WEBSOCKET_PROTOCOL: f"other, {sockets.PROTOCOL}",
}


def connect(client: Client, path: str = "/live", **options: Any) -> Any:
    return client.ws_connect(path, protocols=(sockets.PROTOCOL,), **options)


def bus_of(client: Client) -> Bus:
    assert client.app
    return client.app[BUS]


def visitors(client: Client) -> int:
    return len(bus_of(client)._subscriptions.get(EVERYBODY, ()))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it asks for has no event
            await asyncio.sleep(0.01)


async def test_visitors_get_what_is_meant_for_everybody_in_order(client: Client) -> None:
    async with connect(client) as one, connect(client, headers=own(client)) as two:
        assert one.protocol == sockets.PROTOCOL
        for number in range(100):
            await bus_of(client).publish(EVERYBODY, {"type": "number", "number": number})
        for ws in (one, two):
            got = [(await ws.receive_json(timeout=20))["number"] for _ in range(100)]
            assert got == list(range(100))
    await until(lambda: visitors(client) == 0)


@pytest.mark.parametrize("method", [hdrs.METH_GET, hdrs.METH_HEAD])
async def test_no_method_is_a_way_around_the_origin(client: Client, method: str) -> None:
    foreign = HANDSHAKE | {hdrs.ORIGIN: "https://evil.example"}
    async with client.request(method, "/live", headers=foreign) as response:
        assert response.status == 403
    async with client.head("/live", headers=HANDSHAKE | own(client)) as response:
        assert response.status == 405


async def test_a_ping_is_answered(client: Client) -> None:
    async with connect(client) as ws:
        for _ in range(3):
            await ws.send_json({"type": "ping"})
            assert await ws.receive_json(timeout=20) == {"type": "pong"}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("hello", 1008),
        ('{"type":"pong"}', 1008),
        (b'{"type":"ping"}', 1003),
        ('{"type":"ping"}'.ljust(sockets.MAX_SIZE + 1), 1009),
    ],
)
async def test_who_sends_anything_else_is_disconnected(
    client: Client, sent: str | bytes, code: int
) -> None:
    async with connect(client) as ws:
        await (ws.send_str(sent) if isinstance(sent, str) else ws.send_bytes(sent))
        assert (await ws.receive(timeout=20)).type is WSMsgType.CLOSE
        assert ws.close_code == code


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({hdrs.SEC_WEBSOCKET_PROTOCOL: sockets.PROTOCOL}, 400),
        (HANDSHAKE | {hdrs.SEC_WEBSOCKET_PROTOCOL: "live.v2"}, 400),
        (HANDSHAKE | {hdrs.ORIGIN: "https://evil.example"}, 403),
    ],
)
async def test_handshakes_that_are_refused(
    client: Client, headers: dict[str, str], status: int
) -> None:
    async with client.get("/live", headers=headers) as response:
        assert response.status == status
    assert visitors(client) == 0


async def deaf(client: Client) -> socket.socket:
    """Return the connection of a client that reads nothing after the handshake."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setblocking(False)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(raw, ("127.0.0.1", client.port))
    lines = ["GET /live HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in HANDSHAKE.items())]
    await loop.sock_sendall(raw, "\r\n".join([*lines, "", ""]).encode())
    assert (await loop.sock_recv(raw, 4096)).startswith(b"HTTP/1.1 101 ")
    return raw


async def test_who_does_not_read_is_dropped_and_holds_nobody_up(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "PATIENCE", 0.5)
    readers = [await connect(client) for _ in range(10)]
    with await deaf(client) as raw:
        await until(lambda: len(client.server.handler.connections) == 11)
        number = 0
        async with asyncio.timeout(30):
            while visitors(client) > 10:
                number += 1
                await bus_of(client).publish(EVERYBODY, {"n": number, "text": "x" * 60_000})
                got = [(await reader.receive_json())["n"] for reader in readers]
                assert got == [number] * 10
                await asyncio.sleep(0.01)
        await until(lambda: len(client.server.handler.connections) == 10)
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                while await asyncio.get_running_loop().sock_recv(raw, 2**20):
                    pass  # what the kernel had, and then the end
    for reader in readers:
        await reader.close()
    await until(lambda: visitors(client) == 0)


@pytest.mark.parametrize("too_slow", ["for one message", "for too many"])
async def test_who_reads_again_learns_why_it_was_dropped(
    client: Client, monkeypatch: pytest.MonkeyPatch, too_slow: str
) -> None:
    if too_slow == "for too many":
        monkeypatch.setattr(bus, "MAX_WAITING", 20)
    async with connect(client) as ws:  # which reads a bit ahead, and no more
        if too_slow == "for one message":  # the time for the farewell was taken at the handshake
            monkeypatch.setattr(sockets, "PATIENCE", 0.1)
        (subscription,) = bus_of(client)._subscriptions[EVERYBODY]
        sent = 0
        async with asyncio.timeout(20):
            while not subscription._missed and subscription._waiting.qsize() < 50:
                await bus_of(client).publish(EVERYBODY, {"n": sent, "text": "x" * 60_000})
                sent += 1
            await asyncio.sleep(0.3)
            got = [message.json()["n"] async for message in ws]
        assert got == list(range(len(got)))
        assert 0 < len(got) < sent
        assert subscription._missed == (too_slow == "for too many")
        assert ws.close_code == 1013


async def test_a_server_that_stops_says_goodbye_and_opens_no_more(client: Client) -> None:
    assert client.app
    async with connect(client) as ws:
        await client.app.shutdown()
        assert (await ws.receive(timeout=20)).type is WSMsgType.CLOSE
        assert ws.close_code == 1001
    async with client.get("/live", headers=HANDSHAKE) as response:
        assert response.status == 503


async def test_who_does_not_answer_the_heartbeat_is_gone(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "HEARTBEAT", 0.6)
    async with connect(client) as answering, connect(client, autoping=False) as silent:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.4):
                await answering.receive()
        assert (await silent.receive(timeout=20)).type is WSMsgType.PING
        assert (await silent.receive(timeout=20)).type is WSMsgType.CLOSED
        assert visitors(client) == 1


async def test_a_socket_lasts_as_long_as_its_messages_and_its_time(
    aiohttp_client: AiohttpClient,
) -> None:
    async def some(*, forever: bool) -> AsyncIterator[str]:
        yield "hello"
        if forever:
            await asyncio.Event().wait()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        forever = "forever" in request.query
        return await sockets.stream(request, some(forever=forever), lifetime=0.5)

    app = create_app()
    app.router.add_get("/some", handler)
    client = await aiohttp_client(app)
    codes = []
    for path in ("/some", "/some?forever"):
        async with connect(client, path) as ws:
            assert await ws.receive_json(timeout=20) == "hello"
            assert (await ws.receive(timeout=20)).type is WSMsgType.CLOSE
            codes.append(ws.close_code)
    assert codes == [1000, 1008]


@pytest.mark.parametrize("cause", ["the client", "the server", "the network, while we write"])
async def test_whatever_breaks_a_connection_nothing_is_left_behind(
    client: Client, cause: str
) -> None:
    def tasks() -> int:
        return sum(sockets.__file__ in repr(task) for task in asyncio.all_tasks())

    ws = await connect(client)
    await until(lambda: tasks() == 3)
    (connection,) = client.server.handler.connections
    assert connection.transport
    assert connection._task_handler
    if cause == "the client":
        ws._response.connection.transport.abort()
    elif cause == "the server":
        connection._task_handler.cancel()
    else:
        connection.transport.abort()
        await bus_of(client).publish(EVERYBODY, "hello")
    await until(lambda: visitors(client) == tasks() == 0)
    await until(lambda: not client.server.handler.connections)
    await ws.close()
