import pytest
from aiohttp import WSServerHandshakeError, hdrs
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web.readiness import CHECKS

from ..helpers import Client, own
from .helpers import echo_app, raw_status

# % endfilter
FOREIGN = {hdrs.ORIGIN: "https://evil.example"}


@pytest.fixture
async def guarded(aiohttp_client: AiohttpClient) -> Client:
    app = echo_app()
    app[CHECKS].clear()  # so that /readyz depends on nothing
    return await aiohttp_client(app)


@pytest.mark.parametrize("path", ["/echo", "/nested/echo", "/static/site.css", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
async def test_unsafe_method_needs_own_origin(guarded: Client, path: str, method: str) -> None:
    async with guarded.request(method, path, headers=FOREIGN) as response:
        assert response.status == 403
    async with guarded.request(method, path, headers=own(guarded)) as response:
        assert response.status == {"/nowhere": 404, "/static/site.css": 405}.get(path, 200)


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
        (b"GET / HTTP/1.0", 200),  # before there was Host; the address that was connected to
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: example.com", 421),
        (b"GET http://example.com/ HTTP/1.1\r\nHost: example.com", 200),
        (b"GET /livez HTTP/1.1\r\nHost: 10.1.2.3:8080", 200),  # a probe
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
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
    gzip = b"Content-Encoding: gzip\r\nContent-Length: 8\r\n\r\nno gzip!"
    assert await raw_status(guarded, head + gzip) == 400
