import asyncio
import os
import socket
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from pytest_aiohttp import AiohttpClient
from structlog.testing import LogCapture

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.settings import Peer
from package_name.web.proxy import MAX_HOPS, client_address, is_trusted

from ..helpers import Client, session


# % endfilter
async def show_client(request: web.Request) -> web.Response:
    return web.json_response([request.remote, request.scheme, request.host])


def showing_app() -> web.Application:
    app = create_app()
    app.router.add_get("/client", show_client)
    return app


@pytest.fixture
async def proxied(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("ALLOWED_HOSTS", "*.example.org, 127.0.0.1")
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")
    return await aiohttp_client(showing_app())


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 10.1.2.3",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "www.example.org",
    "X-Request-ID": "made-by-the-proxy.1",
}


async def test_forwarded_headers_from_trusted_peer_are_applied(
    proxied: Client, access_log: LogCapture
) -> None:
    async with proxied.get("/client", headers=FORWARDED) as response:
        assert await response.json() == ["203.0.113.9", "https", "www.example.org"]
        assert response.headers["X-Request-ID"] == "made-by-the-proxy.1"
    await proxied.close()
    (line,) = access_log.entries
    assert line["client"] == "203.0.113.9"
    assert line["status"] == 200


async def test_empty_forwarded_headers_are_ignored_and_schemes_have_any_case(
    proxied: Client,
) -> None:
    headers = {"X-Forwarded-For": "", "X-Forwarded-Host": "", "X-Forwarded-Proto": "WSS"}
    async with proxied.get("/client", headers=headers) as response:
        assert (await response.json())[:2] == ["127.0.0.1", "https"]


async def test_forwarded_headers_from_untrusted_peer_are_ignored(
    aiohttp_client: AiohttpClient, access_log: LogCapture
) -> None:
    client = await aiohttp_client(showing_app())
    async with client.get("/client", headers=FORWARDED) as response:
        remote, scheme, host = await response.json()
        assert (remote, scheme, host) == ("127.0.0.1", "http", f"127.0.0.1:{client.port}")
        assert response.headers["X-Request-ID"] != "made-by-the-proxy.1"
    await client.close()
    assert access_log.entries[0]["client"] == "127.0.0.1"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "not an address"},
        {"X-Forwarded-For": "203.0.113.9, unknown, 10.0.0.1"},
        {"X-Forwarded-Host": "example.org:65536"},
        {"X-Forwarded-Proto": "gopher"},
        {"X-Forwarded-Proto": "http https"},
        {"X-Forwarded-Proto": "https, gopher", "X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-Host": "exa mple"},
        {"X-Forwarded-Host": "www.example.org, exa mple", "X-Forwarded-For": "203.0.113.9"},
    ],
)
async def test_malformed_forwarded_headers_get_400(
    proxied: Client, headers: dict[str, str]
) -> None:
    async with proxied.get("/client", headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["detail"]


CHAIN = "203.0.113.9, 10.0.0.2"
"""Addresses of a client behind 10.0.0.2 and the peer, which are both trusted."""


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            [("For", CHAIN), ("Proto", "https,http"), ("Host", "a.example.org, b.example.org")],
            ["203.0.113.9", "https", "a.example.org"],
        ),
        ([("For", CHAIN), ("Proto", "wss")], ["203.0.113.9", "https"]),
        ([("For", CHAIN), ("Proto", "gopher , HTTPS\t,,http,")], ["203.0.113.9", "https"]),
        ([("For", CHAIN), ("Proto", "https"), ("Proto", "http")], ["203.0.113.9", "https"]),
        ([("For", "203.0.113.9"), ("For", "10.0.0.2"), ("Proto", "https, http")], [..., "https"]),
        ([("For", "203.0.113.9"), ("Proto", "https, http")], ["203.0.113.9", "http"]),
        ([("For", "203.0.113.9"), ("Proto", "https"), ("Proto", "http")], [..., "http"]),
        (
            [("For", "203.0.113.9,"), ("Host", "evil.example, www.example.org")],
            ["203.0.113.9", "http", "www.example.org"],
        ),
        ([("For", "203.0.113.9, unix:"), ("Proto", "https, http")], ["127.0.0.1", "http"]),
        # If all are trusted, the first one counts, as in X-Forwarded-For.
        ([("For", "10.0.0.3, 10.0.0.2"), ("Proto", "https, http, http")], ["10.0.0.3", "https"]),
        ([("Proto", "https,http")], ["127.0.0.1", "https"]),
        ([("Proto", " , "), ("Host", ","), ("For", ", ,")], ["127.0.0.1", "http"]),
    ],
)
async def test_forwarded_lists_are_read_from_the_right_as_far_as_proxies_are_trusted(
    proxied: Client, sent: list[tuple[str, str]], expected: list[object]
) -> None:
    headers = [(f"X-Forwarded-{name}", value) for name, value in sent]
    async with proxied.get("/client", headers=headers) as response:
        found = await response.json()
    assert [
        each for each in zip(found, expected, strict=False) if each[1] not in {each[0], ...}
    ] == []


async def test_end_of_a_long_forwarded_list_is_read_and_nothing_else(proxied: Client) -> None:
    addresses = ", ".join(["garbage", "203.0.113.9", *["10.0.0.2"] * MAX_HOPS])
    async with proxied.get("/client", headers={"X-Forwarded-For": addresses}) as response:
        assert (await response.json())[0] == "10.0.0.2"


async def test_unix_socket_peer_is_trusted_only_if_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, access_log: LogCapture
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "*.example.org, localhost")
    for trusted, expected in (("unix,10.0.0.0/8", "203.0.113.9"), ("10.0.0.0/8", None)):
        monkeypatch.setenv("TRUSTED_PROXIES", trusted)
        path = tmp_path / f"{trusted[:2]}.sock"
        runner = web.AppRunner(showing_app())
        await runner.setup()
        await web.UnixSite(runner, path).start()
        async with session(path) as client, client.get("/client", headers=FORWARDED) as response:
            assert (await response.json())[0] == (expected or "")
        await runner.cleanup()
    assert [line["client"] for line in access_log.entries] == ["203.0.113.9", "unix"]


# Headers that arrive when a client at 203.0.113.9 requests https://www.example.org/ with forged
# headers: each proxy appends the address of its peer, and the outermost proxy sets the rest.
FORGED = {"X-Forwarded-For": "198.51.100.1, 10.0.0.1", "X-Forwarded-Proto": "gopher"}
OUTERMOST = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.example.org"}
ONE_PROXY = OUTERMOST | {"X-Forwarded-For": "198.51.100.1, 10.0.0.1, 203.0.113.9"}
TWO_PROXIES = OUTERMOST | {"X-Forwarded-For": "198.51.100.1, 10.0.0.1, 203.0.113.9, 10.0.0.2"}


@pytest.mark.parametrize("over", ["tcp", "unix"])
@pytest.mark.parametrize(
    ("proxies", "headers", "remote", "scheme"),
    [
        (0, FORGED, None, "http"),
        (1, ONE_PROXY, "203.0.113.9", "https"),
        (2, TWO_PROXIES, "203.0.113.9", "https"),
    ],
)
async def test_client_scheme_and_host_are_right_behind_0_1_and_2_proxies(
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
    runner = web.AppRunner(showing_app())
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
    async with client, client.get(f"{base}/client", headers=headers | host) as response:
        peer = "127.0.0.1" if over == "tcp" else ""
        assert await response.json() == [remote or peer, scheme, "www.example.org"]
        assert ("Strict-Transport-Security" in response.headers) == (scheme == "https")
    await runner.cleanup()
    assert access_log.entries[0]["client"] == (remote or peer or "unix")


async def test_peer_with_a_bound_unix_socket_is_not_taken_for_an_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, access_log: LogCapture
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "unix")
    runner = web.AppRunner(showing_app())
    await runner.setup()
    await web.UnixSite(runner, tmp_path / "server.sock").start()
    for name in (b"127.0.0.1", b"\0abstract-%d" % os.getpid()):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.bind(name)
            peer.connect(str(tmp_path / "server.sock"))
            reader, writer = await asyncio.open_connection(sock=peer)
            writer.write(b"GET /client HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b" 200 " in await reader.read()  # until it is closed: the line is logged by then
            writer.close()
    await runner.cleanup()
    assert [line["client"] for line in access_log.entries] == ["unix", "unix"]


async def test_ipv4_peer_of_a_dual_stack_socket_has_its_ipv4_address(
    access_log: LogCapture,
) -> None:
    runner = web.AppRunner(showing_app())
    await runner.setup()
    both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    await web.SockSite(runner, both).start()
    url = f"http://127.0.0.1:{both.getsockname()[1]}/client"
    async with ClientSession() as client, client.get(url) as response:
        assert response.status == 200
    await runner.cleanup()
    assert access_log.entries[0]["client"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("elements", "address", "hops"),
    [
        (["1.1.1.1", "2.2.2.2", "10.0.0.1"], "2.2.2.2", 1),
        (["10.0.0.2", "10.0.0.1"], "10.0.0.2", MAX_HOPS),
        (["unknown", "2.2.2.2", "10.0.0.1"], "2.2.2.2", 1),
        (["2.2.2.2", "unix:", "10.0.0.1", "unix:"], "2.2.2.2", 3),
        (["unix:"], "", MAX_HOPS),
        (["2.2.2.2:4711"], "2.2.2.2", 0),
        (["[2001:db8::1]:80"], "2001:db8::1", 0),
        (["::ffff:2.2.2.2"], "2.2.2.2", 0),
        ([], "", MAX_HOPS),
    ],
)
def test_client_address_is_the_last_that_is_not_a_trusted_proxy(
    elements: list[str], address: str, hops: int
) -> None:
    trusted: list[Peer] = [ip_network("10.0.0.0/8"), ip_network("::1"), "unix"]
    assert client_address(elements, trusted) == (address, hops)


def test_is_trusted_takes_mapped_and_scoped_addresses() -> None:
    trusted = (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert is_trusted("::ffff:10.0.0.1", trusted)
    assert not is_trusted("fe80::1%eth0", trusted)
