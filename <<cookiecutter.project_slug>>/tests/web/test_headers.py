import asyncio
import logging
import re
from collections.abc import Mapping

import pytest
from aiohttp import WSMsgType, hdrs, web
from pytest_aiohttp import AiohttpClient
from structlog.testing import LogCapture

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import shutdown

from ..helpers import Client

# % endfilter
SECURITY_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
RETIRED_HEADERS = [
    "Expect-CT",
    "Feature-Policy",
    "P3P",
    "Pragma",
    "Public-Key-Pins",
    "X-XSS-Protection",
]


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write_eof(b"streamed")
    return response


async def websocket(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    await response.send_str("hello")
    await response.close()
    return response


async def fail(_request: web.Request) -> web.Response:
    raise RuntimeError


@pytest.fixture
async def routes(aiohttp_client: AiohttpClient) -> Client:
    app = create_app()
    for handler in (stream, websocket, fail):
        app.router.add_get(f"/{handler.__name__}", handler)
    return await aiohttp_client(app)


def assert_hardened(headers: Mapping[str, str]) -> None:
    for name, value in SECURITY_HEADERS.items():
        assert headers[name] == value
    policy, _, nonce = headers["Content-Security-Policy"].partition("; script-src ")
    assert policy == (
        "default-src 'none'; base-uri 'none'; connect-src 'self'; font-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; img-src 'self'; manifest-src 'self';"
        " style-src 'self'"
    )
    assert not nonce or re.fullmatch(r"'nonce-[A-Za-z0-9+/]{22}==' 'strict-dynamic'", nonce)
    assert headers[hdrs.CACHE_CONTROL]
    assert len(headers["X-Request-ID"]) == 32
    assert hdrs.SERVER not in headers
    assert not [name for name in RETIRED_HEADERS if name in headers]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/about", 200),
        ("/livez", 200),
        ("/static/site.css", 200),
        ("/robots.txt", 200),
        ("/stream", 200),
        ("/nowhere", 404),
        ("/static/nowhere", 404),
        ("/fail", 500),
    ],
)
async def test_response_has_security_headers(routes: Client, path: str, status: int) -> None:
    async with routes.get(path) as response:
        assert response.status == status
        assert_hardened(response.headers)
        assert "Strict-Transport-Security" not in response.headers


async def test_websocket_handshake_has_security_headers(routes: Client) -> None:
    async with routes.ws_connect("/websocket") as websocket:
        assert_hardened(websocket._response.headers)
        assert (await websocket.receive()).type is WSMsgType.TEXT


async def test_refused_expectation_has_security_headers(routes: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", routes.server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nConnection: close\r\n\r\n")
    head, *lines = (await reader.read()).partition(b"\r\n\r\n")[0].decode().split("\r\n")
    writer.close()
    assert " 417 " in head
    assert_hardened({name: value for name, _, value in (line.partition(": ") for line in lines)})


COOKIE = b"Host: localhost\r\nCookie: secret="


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + COOKIE + b"secret" * 2000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + COOKIE + b"\0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + COOKIE + b"\r\nExpect: \x80\r\n\r\n",
        b"GET /secret" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_malformed_request_gets_security_headers_and_is_not_quoted(
    sent: bytes, caplog: pytest.LogCaptureFixture, access_log: LogCapture
) -> None:
    caplog.set_level(logging.INFO)
    runner = shutdown.Runner(create_app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(sent)
    answer = await reader.read()  # until the connection is closed
    writer.close()
    await runner.cleanup()
    head, *lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert " 400 " in head
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers.pop(hdrs.SERVER, "aiohttp") == "aiohttp"  # without a version
    assert_hardened(headers)
    assert b"secret" not in answer
    assert "secret" not in caplog.text
    (line,) = access_log.entries
    assert line["status"] == 400


async def test_error_of_a_cacheable_page_is_not_cached(routes: Client) -> None:
    headers = {"If-Match": '"outdated"'}
    async with routes.get("/favicon.ico", headers=headers) as response:
        assert response.status == 412
        assert response.headers[hdrs.CACHE_CONTROL] == "no-store"


async def test_hsts_is_sent_over_tls_only(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    client = await aiohttp_client(create_app())
    async with client.get("/", headers={"X-Forwarded-Proto": "https"}) as response:
        assert response.headers["Strict-Transport-Security"] == "max-age=63072000"
    async with client.get("/", headers={"X-Forwarded-Proto": "http"}) as response:
        assert "Strict-Transport-Security" not in response.headers
