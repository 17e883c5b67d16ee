import asyncio
import socket
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpClient
from structlog.testing import LogCapture

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web.proxy import client_address, is_trusted

from ..helpers import Client, session


# % endfilter
async def echo(request: web.Request) -> web.Response:
    return web.json_response([request.remote, request.scheme, request.host])


def echoing() -> web.Application:
    app = create_app()
    app.router.add_get("/echo", echo)
    return app


@pytest.fixture
async def proxied(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("ALLOWED_HOSTS", "*.example.org, 127.0.0.1")
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")
    return await aiohttp_client(echoing())


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 10.1.2.3",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "www.example.org",
    "X-Request-ID": "made-by-the-proxy.1",
}


async def test_a_trusted_proxy_is_believed(proxied: Client, access_log: LogCapture) -> None:
    async with proxied.get("/echo", headers=FORWARDED) as response:
        assert await response.json() == ["203.0.113.9", "https", "www.example.org"]
        assert response.headers["X-Request-ID"] == "made-by-the-proxy.1"
    await proxied.close()
    (line,) = access_log.entries
    assert line["client"] == "203.0.113.9"
    assert line["status"] == 200


async def test_empty_headers_say_nothing_and_schemes_have_any_case(proxied: Client) -> None:
    headers = {"X-Forwarded-For": "", "X-Forwarded-Host": "", "X-Forwarded-Proto": "WSS"}
    async with proxied.get("/echo", headers=headers) as response:
        assert (await response.json())[:2] == ["127.0.0.1", "https"]


async def test_strangers_are_not(aiohttp_client: AiohttpClient, access_log: LogCapture) -> None:
    client = await aiohttp_client(echoing())
    async with client.get("/echo", headers=FORWARDED) as response:
        remote, scheme, host = await response.json()
        assert (remote, scheme, host) == ("127.0.0.1", "http", f"127.0.0.1:{client.port}")
        assert response.headers["X-Request-ID"] != "made-by-the-proxy.1"
    await client.close()
    assert access_log.entries[0]["client"] == "127.0.0.1"


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "<script>", 'a"b', "é"])
async def test_a_malformed_id_is_replaced(proxied: Client, request_id: str) -> None:
    async with proxied.get("/echo", headers={"X-Request-ID": request_id}) as response:
        assert response.status == 200
        assert len(response.headers["X-Request-ID"]) == 32


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "not an address"},
        {"X-Forwarded-For": "203.0.113.9,"},
        {"X-Forwarded-Host": "example.org:65536"},
        {"X-Forwarded-Proto": "gopher"},
        {"X-Forwarded-Host": "exa mple"},
        [("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")],
    ],
)
async def test_malformed_headers_of_a_proxy_are_refused(
    proxied: Client, headers: dict[str, str]
) -> None:
    async with proxied.get("/echo", headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["detail"]


async def test_a_unix_socket_can_be_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, access_log: LogCapture
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "*.example.org, localhost")
    for trusted, expected in (("unix,10.0.0.0/8", "203.0.113.9"), ("10.0.0.0/8", None)):
        monkeypatch.setenv("TRUSTED_PROXIES", trusted)
        path = tmp_path / f"{trusted[:2]}.sock"
        runner = web.AppRunner(echoing())
        await runner.setup()
        await web.UnixSite(runner, path).start()
        async with session(path) as client, client.get("/echo", headers=FORWARDED) as response:
            assert (await response.json())[0] == (expected or "")
        await runner.cleanup()
    assert [line["client"] for line in access_log.entries] == ["203.0.113.9", "unix"]


# What arrives when a client at 203.0.113.9 asks for https://www.example.org/ and lies about itself:
# each proxy appends the address of its peer, and the outermost sets the rest.
LIES = {"X-Forwarded-For": "198.51.100.1, 10.0.0.1", "X-Forwarded-Proto": "gopher"}
OUTERMOST = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.example.org"}
ONE = OUTERMOST | {"X-Forwarded-For": "198.51.100.1, 10.0.0.1, 203.0.113.9"}
TWO = OUTERMOST | {"X-Forwarded-For": "198.51.100.1, 10.0.0.1, 203.0.113.9, 10.0.0.2"}


@pytest.mark.parametrize("over", ["tcp", "unix"])
@pytest.mark.parametrize(
    ("proxies", "headers", "remote", "scheme"),
    [(0, LIES, None, "http"), (1, ONE, "203.0.113.9", "https"), (2, TWO, "203.0.113.9", "https")],
)
async def test_it_is_right_behind_no_proxy_one_and_two(
    over: str,
    proxies: int,
    headers: dict[str, str],
    remote: str | None,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    access_log: LogCapture,
) -> None:
    trusted = {"tcp": "127.0.0.1", "unix": "unix"}[over]
    monkeypatch.setenv("TRUSTED_PROXIES", ["", trusted, f"{trusted}, 10.0.0.2"][proxies])
    monkeypatch.setenv("ALLOWED_HOSTS", "www.example.org")
    runner = web.AppRunner(echoing())
    await runner.setup()
    path = tmp_path / "server.sock"
    site = web.UnixSite(runner, path) if over == "unix" else web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    if over == "unix":
        client, base = session(path), "http://localhost"
    else:
        address = runner.addresses[0]
        client, base = ClientSession(), f"http://{address[0]}:{address[1]}"
    host = {} if proxies else {"Host": "www.example.org"}
    async with client, client.get(f"{base}/echo", headers=headers | host) as response:
        peer = "127.0.0.1" if over == "tcp" else ""
        assert await response.json() == [remote or peer, scheme, "www.example.org"]
        assert ("Strict-Transport-Security" in response.headers) == (scheme == "https")
    await runner.cleanup()
    assert access_log.entries[0]["client"] == (remote or peer or "unix")


async def test_a_peer_that_names_its_own_socket_is_a_unix_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, access_log: LogCapture
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "unix")
    runner = web.AppRunner(echoing())
    await runner.setup()
    await web.UnixSite(runner, tmp_path / "server.sock").start()
    for name in (b"127.0.0.1", b"\0abstract"):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.bind(name)
            peer.connect(str(tmp_path / "server.sock"))
            reader, writer = await asyncio.open_connection(sock=peer)
            writer.write(b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b" 200 " in await reader.readline()
            writer.close()
    await runner.cleanup()
    assert [line["client"] for line in access_log.entries] == ["unix", "unix"]


async def test_an_address_is_the_same_on_a_socket_for_both_protocols(
    access_log: LogCapture,
) -> None:
    runner = web.AppRunner(echoing())
    await runner.setup()
    both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    await web.SockSite(runner, both).start()
    url = f"http://127.0.0.1:{both.getsockname()[1]}/echo"
    async with ClientSession() as client, client.get(url) as response:
        assert response.status == 200
    await runner.cleanup()
    assert access_log.entries[0]["client"] == "127.0.0.1"


def test_the_client_is_the_last_address_that_is_no_proxy() -> None:
    trusted = (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert client_address("1.1.1.1, 2.2.2.2, 10.0.0.1", trusted) == "2.2.2.2"
    assert client_address("10.0.0.2, 10.0.0.1", trusted) == "10.0.0.2"
    assert client_address("unknown, 2.2.2.2, 10.0.0.1", trusted) == "2.2.2.2"
    assert client_address("2.2.2.2:4711", trusted) == "2.2.2.2"
    assert client_address("[2001:db8::1]:80", trusted) == "2001:db8::1"
    assert client_address("::ffff:2.2.2.2", trusted) == "2.2.2.2"
    assert is_trusted("::ffff:10.0.0.1", trusted)
    assert not is_trusted("fe80::1%eth0", trusted)


async def test_the_connection_settings_reach_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
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
