import asyncio
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError, hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import csrf, hosts, limits, nesting

from ..helpers import Client, own

# % endfilter
SITE = "https://example.com"
SFS = "Sec-Fetch-Site"


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        # Browsers of today, over TLS.
        ([(SFS, "same-origin"), ("Origin", "https://example.com")], True),
        ([(SFS, "none")], True),  # typed, or from a bookmark
        ([(SFS, "cross-site"), ("Origin", "https://evil.example")], False),
        ([(SFS, "same-site"), ("Origin", "https://evil.example.com")], False),  # a subdomain
        ([(SFS, "cross-site"), ("Origin", "http://example.com")], False),  # without TLS
        ([(SFS, "same-origin"), (SFS, "cross-site")], False),
        ([(SFS, "nonsense")], False),
        ([(SFS, "")], False),
        # Browsers of before, and all without TLS.
        ([("Origin", "https://example.com")], True),
        ([("Origin", "https://EXAMPLE.com:443")], True),
        ([("Origin", "https://evil.example")], False),
        ([("Origin", "https://example.com.evil.example")], False),
        ([("Origin", "https://evil.example.com")], False),
        ([("Origin", "https://example.com:8443")], False),
        ([("Origin", "http://example.com")], False),
        ([("Origin", "null")], False),  # a sandboxed frame, a data: URL
        ([("Origin", "")], False),
        ([("Origin", "https://[")], False),
        ([("Origin", "https://example.com"), ("Origin", "https://evil.example")], False),
        ([("Origin", "https://evil.example"), ("Referer", "https://example.com/")], False),
        # Older ones, which send no Origin.
        ([("Referer", "https://example.com/admin/?a=b")], True),
        ([("Referer", "https://evil.example/https://example.com/")], False),
        ([("Referer", "https://example.com@evil.example/")], False),
        ([("Cookie", "session=x")], False),  # the attacker's page hides where it is
        # No browser.
        ([], True),
    ],
)
def test_each_kind_of_attacker(headers: list[tuple[str, str]], ours: bool) -> None:
    assert csrf.is_own(CIMultiDictProxy(CIMultiDict(headers)), SITE) is ours


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com.:8080", "example.com"),
        ("[::1]:80", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("a:b:c", None),
        ("exa mple", None),
        ("example.com:65536", None),
        ("user@example.com", None),
        ("example.com/", None),
        ("", None),
    ],
)
def test_host_names(host: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(ValueError, match="not a host"):
            hosts.host_name(host)
    else:
        assert hosts.host_name(host) == name


def test_allowed_hosts() -> None:
    assert hosts.is_allowed("example.com", ["example.com"])
    assert not hosts.is_allowed("www.example.com", ["example.com"])
    assert hosts.is_allowed("www.example.com", ["*.example.com"])
    assert hosts.is_allowed("a.b.example.com", ["*.example.com"])
    assert not hosts.is_allowed("example.com", ["*.example.com"])
    assert not hosts.is_allowed("evilexample.com", ["*.example.com"])
    assert hosts.is_allowed("anything", ["*"])


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def socket(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


def guarded() -> web.Application:
    app, nested = create_app(), web.Application()
    for application in (app, nested):
        application.router.add_route("*", "/echo", echo)
        application.router.add_get("/socket", socket)
    nesting.nest(app, "/nested/", "nested", nested)
    return app


@pytest.fixture
async def guard(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(guarded())


@pytest.mark.parametrize("path", ["/echo", "/nested/echo", "/static/site.css", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
async def test_unsafe_methods_are_checked_everywhere(guard: Client, path: str, method: str) -> None:
    attack = {hdrs.ORIGIN: "https://evil.example"}
    async with guard.request(method, path, headers=attack) as response:
        assert response.status == 403
    async with guard.request(method, path, headers=own(guard)) as response:
        assert response.status == {"/nowhere": 404, "/static/site.css": 405}.get(path, 200)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_safe_methods_are_not(guard: Client, method: str) -> None:
    attack = {hdrs.ORIGIN: "https://evil.example", SFS: "cross-site"}
    async with guard.request(method, "/echo", headers=attack) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/socket", "/nested/socket"])
async def test_handshakes_are_checked(guard: Client, path: str) -> None:
    with pytest.raises(WSServerHandshakeError) as error:
        await guard.ws_connect(path, origin="https://evil.example")
    assert error.value.status == 403
    async with guard.ws_connect(path, headers=own(guard)) as websocket:
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
async def test_hosts_are_enforced(guard: Client, head: bytes, status: int) -> None:
    assert await answer(guard, head + b"\r\nConnection: close\r\n\r\n") == status


async def answer(client: Client, sent: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(sent)
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: localhost", 404),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 9000, 400),
        (b"GET / HTTP/1.1\r\nHost: localhost" + b"\r\nX: y" * 200, 400),
    ],
)
async def test_urls_and_headers_have_limits(guard: Client, head: bytes, status: int) -> None:
    assert await answer(guard, head + b"\r\n\r\n") == status


async def test_bodies_have_a_limit(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_BODY_SIZE", "10KiB")
    client = await aiohttp_client(guarded())
    async with client.post("/echo", data=b"x" * 10 * 1024) as response:
        assert response.status == 200
    async with client.post("/echo", data=b"x" * (10 * 1024 + 1)) as response:
        assert response.status == 413


async def test_a_body_that_is_malformed(guard: Client) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
    gzip = b"Content-Encoding: gzip\r\nContent-Length: 8\r\n\r\nno gzip!"
    assert await answer(guard, head + gzip) == 400


@pytest.fixture
async def impatient(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(limits, "MIN_RATE", 5)
    monkeypatch.setenv("READ_TIMEOUT", "0.5")
    monkeypatch.setenv("KEEPALIVE_TIMEOUT", "1")
    return await aiohttp_client(guarded())


POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"


async def drip(client: Client, sent: bytes, pause: float) -> bytes:
    """Send byte by byte until the server answers or hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    answered = asyncio.create_task(reader.readline())
    for byte in sent:
        if answered.done():
            break
        writer.write(bytes([byte]))
        await asyncio.wait([answered], timeout=pause)
    line = await answered
    writer.close()
    return line


@pytest.mark.parametrize("extra", [b"Accept: */*", b"Connection: Upgrade\r\nUpgrade: websocket"])
async def test_a_slow_body_is_cut_off(impatient: Client, extra: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient.port)
    writer.write(POST.replace(b"\r\n\r\n", b"\r\n" + extra + b"\r\n\r\n") + b"123")
    assert b" 408 " in await reader.readline()
    assert b"Request Timeout" in await reader.read()  # to the end: the connection is closed
    writer.close()


async def test_a_slow_head_is_cut_off(impatient: Client) -> None:
    assert await drip(impatient, POST, pause=0.2) == b""


async def test_a_body_that_comes_fast_enough_is_not(impatient: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient.port)
    writer.write(POST.replace(b"10", b"40"))
    for _ in range(40):
        await asyncio.sleep(0.05)
        writer.write(b"x")
    assert b" 200 " in await reader.readline()
    writer.close()


async def test_a_client_is_not_blamed_while_nobody_reads(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(request: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response(text=str(len(await request.read())))

    monkeypatch.setenv("READ_TIMEOUT", "0.3")
    monkeypatch.setenv("MAX_BODY_SIZE", "10MiB")
    app = create_app()
    app.router.add_post("/late", late)
    client = await aiohttp_client(app)

    async def body() -> Any:
        for _ in range(40):
            yield b"x" * 65536

    async with client.post("/late", data=body()) as response:
        assert await response.text() == str(40 * 65536)


async def test_websockets_of_a_client_are_limited(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WEBSOCKETS", "2")
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    client = await aiohttp_client(guarded())

    def connect(address: str) -> Any:
        return client.ws_connect("/socket", headers=own(client) | {"X-Forwarded-For": address})

    first, _ = await connect("203.0.113.7"), await connect("203.0.113.7")
    with pytest.raises(WSServerHandshakeError) as error:
        await connect("203.0.113.7")
    assert error.value.status == 429
    await connect("203.0.113.8")
    await first.close()
    await connect("203.0.113.7")
    assert client.app[limits.WEBSOCKETS] == {"203.0.113.7": 2, "203.0.113.8": 1}


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_what_counts_as_one_client(client: str, network: str) -> None:
    assert limits.network(client) == network
