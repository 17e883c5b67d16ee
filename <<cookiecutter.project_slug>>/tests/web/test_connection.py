import asyncio
from collections.abc import Callable

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app

from ..helpers import TIMEOUT, Client, until
from .helpers import raw_status


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
    for byte in b"GET /":  # each byte arrives before the limit, and does not put it off
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
