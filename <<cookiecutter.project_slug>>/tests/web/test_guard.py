import asyncio

import pytest
from aiohttp import WSServerHandshakeError, hdrs
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web.readiness import CHECKS

from ..helpers import Client, own
from .helpers import echo_app, raw_status

# % endfilter
FOREIGN = {hdrs.ORIGIN: "https://evil.example"}


@pytest.fixture
async def guarded(aiohttp_client: AiohttpClient) -> Client:
    app = echo_app()
    app[CHECKS].clear()  # so that /readyz does not depend on anything
    return await aiohttp_client(app)


@pytest.mark.parametrize("path", ["/echo", "/nested/echo", "/static/site.css", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
async def test_unsafe_method_needs_own_origin(guarded: Client, path: str, method: str) -> None:
    async with guarded.request(method, path, headers=FOREIGN) as response:
        assert response.status == 403
    async with guarded.request(method, path, headers=own(guarded)) as response:
        assert response.status in ({200} if path.endswith("/echo") else {404, 405})


@pytest.mark.parametrize("name", ["Origin", "Referer"])
@pytest.mark.parametrize("host", ["xn--", "xn--a.example", "\u5b57" * 2700, "[", "a" * 8000])
@pytest.mark.parametrize("path", ["/echo", "/nowhere", "/admin/login"])
async def test_host_that_idna_cannot_decode_gets_403(
    guarded: Client, name: str, host: str, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{name}: http://{host}\r\n\r\n"
    assert await raw_status(guarded, head.encode()) == 403


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_second_origin_gets_403(guarded: Client, method: str) -> None:
    origin = f"Origin: {guarded.make_url('/').origin()}\r\n"
    head = f"{method} /echo HTTP/1.1\r\nHost: 127.0.0.1:{guarded.port}\r\n"
    assert await raw_status(guarded, f"{head}{origin}\r\n".encode()) == 200
    assert await raw_status(guarded, f"{head}{origin}{origin}\r\n".encode()) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_method_skips_csrf_check(guarded: Client, method: str) -> None:
    headers = FOREIGN | {"Sec-Fetch-Site": "cross-site"}
    async with guarded.request(method, "/echo", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/websocket", "/nested/websocket"])
async def test_websocket_handshake_needs_own_origin(guarded: Client, path: str) -> None:
    with pytest.raises(WSServerHandshakeError) as error:
        await guarded.ws_connect(path, headers=FOREIGN)
    assert error.value.status == 403
    async with guarded.ws_connect(path, headers=own(guarded)) as websocket:
        await websocket.send_str("hello")
        assert await websocket.receive_str() == "hello"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: example.com", 200),
        (b"GET / HTTP/1.1\r\nHost: EXAMPLE.COM:80", 200),
        (b"GET / HTTP/1.1\r\nHost: evil.example", 421),
        (b"GET / HTTP/1.1\r\nHost: example.com.evil.example", 421),
        (b"GET / HTTP/1.1\r\nHost: exa mple", 400),
        (b"GET / HTTP/1.1\r\nHost: ", 400),
        (b"GET / HTTP/1.1\r\nX: y", 400),
        (b"GET / HTTP/1.1\r\nHost: example.com\r\nHost: evil.example", 400),
        (b"GET / HTTP/1.0", 200),  # predates Host; the connected address counts
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: example.com", 421),
        (b"GET http://example.com/ HTTP/1.1\r\nHost: example.com", 200),
        (b"GET /livez HTTP/1.1\r\nHost: 10.1.2.3:8080", 200),  # a health check
        (b"GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:8080", 200),
        (b"GET /static/site.css HTTP/1.1\r\nHost: 10.1.2.3", 421),
        (b"GET /about HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Host: evil.example", 200),
    ],
)
async def test_host_has_to_be_allowed_except_for_probes(
    guarded: Client, head: bytes, status: int
) -> None:
    assert await raw_status(guarded, head + b"\r\nConnection: close\r\n\r\n") == status


async def test_malformed_body_gets_400(guarded: Client) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert await raw_status(guarded, head + b"not a chunk\r\n") == 400


@pytest.mark.parametrize(
    ("allowed", "client_address", "answered"),
    [
        ("", "127.0.0.9", True),
        ("", "::1", True),
        ("", "192.0.2.9", False),
        ("", "::ffff:192.0.2.9", False),
        ("", "2001:db8::1", False),
        ("192.0.2.0/24, 2001:db8::/32", "192.0.2.9", True),
        ("192.0.2.0/24, 2001:db8::/32", "2001:db8::1", True),
        ("192.0.2.0/24, 2001:db8::/32", "198.51.100.1", False),
        ("192.0.2.0/24, 2001:db8::/32", "127.0.0.1", True),
    ],
)
async def test_development_answers_nothing_to_clients_of_networks_that_are_not_allowed(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    development: None,
    allowed: str,
    client_address: str,
    answered: bool,
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    monkeypatch.setenv("DEV_ALLOW", allowed)
    client = await aiohttp_client(create_app())
    for path in ("/", "/livez", "/nowhere", "/static/site.css", "/admin/"):
        sent = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client_address}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(sent.encode())
        assert bool(await reader.read(1)) is answered
        writer.close()
