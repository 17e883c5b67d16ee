import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import limits

from ..helpers import TIMEOUT, Client, own, until
from .conftest import Timers
from .helpers import echo_app

# % endfilter
READ_TIMEOUT = 50
ENOUGH = limits.MIN_RATE * READ_TIMEOUT
"""Bytes that must arrive within READ_TIMEOUT."""


class Reading:
    """An application that reads a body when told to, and the request that it reads."""

    def __init__(self) -> None:
        self.request: web.Request | None = None
        self.may_read = asyncio.Event()
        self.app = create_app()
        self.app.router.add_post("/read", self.read)

    async def read(self, request: web.Request) -> web.Response:
        self.request = request
        await self.may_read.wait()
        return web.Response(text=str(len(await request.read())))

    def received(self, size: int) -> bool:
        """Return True once ``size`` bytes of the body were received."""
        return self.request is not None and self.request.content.total_bytes >= size


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    monkeypatch.setenv("READ_TIMEOUT", str(READ_TIMEOUT))
    monkeypatch.setenv("MAX_BODY_SIZE", "10MiB")
    return Reading()


async def post(
    client: Client, length: int, extra: bytes = b"Accept: */*"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a request, and return its connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    head = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%b\r\n\r\n"
    writer.write(head % (length, extra))
    return reader, writer


@pytest.mark.parametrize("extra", [b"Accept: */*", b"Connection: Upgrade\r\nUpgrade: websocket"])
@pytest.mark.parametrize("first", [3, ENOUGH], ids=["slow", "stalled"])
async def test_slow_body_gets_408_and_closes_the_connection(
    aiohttp_client: AiohttpClient, timers: Timers, reading: Reading, first: int, extra: bytes
) -> None:
    reading.may_read.set()
    reader, writer = await post(await aiohttp_client(reading.app), 2 * ENOUGH, extra)
    writer.write(b"x" * first)
    await until(lambda: reading.received(first))
    await timers.fire(READ_TIMEOUT)
    if first == ENOUGH:  # in time; nothing more follows
        await timers.fire(READ_TIMEOUT)
    async with asyncio.timeout(TIMEOUT):
        assert b" 408 " in await reader.readline()
        assert b"Request Timeout" in await reader.read()  # until the connection is closed
    writer.close()


async def test_body_at_the_minimum_rate_is_read_to_its_end(
    aiohttp_client: AiohttpClient, timers: Timers, reading: Reading
) -> None:
    reading.may_read.set()
    reader, writer = await post(await aiohttp_client(reading.app), 4 * ENOUGH)
    for part in (1, 2, 3):
        await timers.wait_for(READ_TIMEOUT)
        writer.write(b"x" * ENOUGH)
        await until(partial(reading.received, part * ENOUGH))
        timers.advance(READ_TIMEOUT)
    await timers.wait_for(READ_TIMEOUT)  # so enough had arrived by the third check, too
    writer.write(b"x" * ENOUGH)
    async with asyncio.timeout(TIMEOUT):
        assert b" 200 " in await reader.readline()
    writer.close()


async def test_client_is_not_held_to_the_rate_while_the_handler_does_not_read(
    aiohttp_client: AiohttpClient, timers: Timers, reading: Reading
) -> None:
    client = await aiohttp_client(reading.app)

    def is_paused() -> bool:
        transport = reading.request.transport if reading.request else None
        return isinstance(transport, asyncio.ReadTransport) and not transport.is_reading()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65536

    sent = asyncio.create_task(client.post("/read", data=body()))
    await until(is_paused)
    for _ in range(3):
        await timers.fire(READ_TIMEOUT)
    await timers.wait_for(READ_TIMEOUT)
    reading.may_read.set()
    async with asyncio.timeout(TIMEOUT), await sent as response:
        assert await response.text() == str(40 * 65536)


async def test_body_over_max_body_size_gets_413(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_BODY_SIZE", "10KiB")
    client = await aiohttp_client(echo_app())
    async with client.post("/echo", data=b"x" * 10 * 1024) as response:
        assert response.status == 200
    async with client.post("/echo", data=b"x" * (10 * 1024 + 1)) as response:
        assert response.status == 413


async def test_websockets_over_max_websockets_of_a_client_get_429(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WEBSOCKETS", "2")
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    app = echo_app()
    client = await aiohttp_client(app)

    def connect(address: str) -> Any:
        headers = own(client) | {"X-Forwarded-For": address}
        return client.ws_connect("/websocket", headers=headers)

    first, _ = await connect("203.0.113.7"), await connect("203.0.113.7")
    with pytest.raises(WSServerHandshakeError) as error:
        await connect("203.0.113.7")
    assert error.value.status == 429
    await connect("203.0.113.8")
    await first.close()
    await until(lambda: app[limits.WEBSOCKETS] == {"203.0.113.7": 1, "203.0.113.8": 1})
    await connect("203.0.113.7")
    assert app[limits.WEBSOCKETS] == {"203.0.113.7": 2, "203.0.113.8": 1}


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_network_counts_ipv6_clients_by_64_bits(client: str, network: str) -> None:
    assert limits.network(client) == network
