from collections.abc import Callable

import pytest
from aiohttp import hdrs
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app

from ..helpers import CHEAP_HASHER, Client
from ..web.helpers import raw_status
from .helpers import is_signed_in, sign_in

# % endfilter
OTHER_PASSWORD = "another password that is right"


def cookie_of(client: Client) -> str:
    """Return the Cookie header with the client's session."""
    (cookie,) = client.session.cookie_jar
    return f"session={cookie.value}"


async def test_cookie_is_http_only_and_lax_and_behind_tls_secure(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    client = await aiohttp_client(create_app())
    plain = (await sign_in(client)).cookies["session"]
    assert (plain["httponly"], plain["samesite"], plain["path"]) == (True, "Lax", "/")
    assert not plain["secure"]
    assert plain["max-age"] == "1800"

    tls = {"X-Forwarded-Proto": "https"}
    origin = str(client.make_url("/").with_scheme("https").origin())
    response = await sign_in(client, Origin=origin, **tls)
    cookie = response.cookies["__Host-session"]
    assert cookie["secure"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert not cookie["domain"]
    mine = tls | {hdrs.COOKIE: f"__Host-session={cookie.value}"}
    assert await is_signed_in(client, **mine)
    # Behind TLS, the server ignores the cookie's name without TLS.
    client.session.cookie_jar.clear()
    assert not await is_signed_in(client, **(tls | {hdrs.COOKIE: f"session={cookie.value}"}))

    out = await client.post(
        "/admin/logout", headers=mine | {hdrs.ORIGIN: origin}, allow_redirects=False
    )
    gone = out.cookies["__Host-session"]
    assert (gone.value, gone["max-age"], gone["path"]) == ("", "0", "/")
    assert gone["secure"]  # otherwise browsers would ignore it


NAME = b"__Host-session="
SPACES = [chr(code) for code in range(0x10FFFF) if chr(code).isspace() and chr(code) not in " \r\n"]


@pytest.fixture
async def secure_cookie(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, account: str
) -> tuple[Client, bytes]:
    """Return a client of an application behind TLS, and the value of a valid session cookie."""
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    client = await aiohttp_client(create_app())
    origin = str(client.make_url("/").with_scheme("https").origin())
    response = await sign_in(client, Origin=origin, X_Forwarded_Proto="https")
    return client, response.cookies["__Host-session"].value.encode()


async def has_session(client: Client, *headers: bytes) -> bool:
    """Return True if the server accepts a session from these Cookie headers, sent unchanged."""
    lines = b"".join(b"Cookie: %s\r\n" % header for header in headers)
    sent = b"GET /admin/ HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\n%s\r\n"
    return await raw_status(client, sent % lines) == 200


async def test_cookie_name_is_compared_as_bytes(secure_cookie: tuple[Client, bytes]) -> None:
    """Browsers apply the rules of ``__Host-`` only to names that begin with exactly this prefix."""
    client, value = secure_cookie
    own = NAME + value
    assert await has_session(client, own)
    assert await has_session(client, b'a=b;\t __Host-session\t = "%s" ; c=d' % value)
    for space in SPACES:
        name = space.encode() + own
        if space != "\t":
            assert not await has_session(client, name), f"{space!r}"
            assert not await has_session(client, b"a=b; " + name), f"{space!r}"
    for name in (
        b"\xa0__Host-session",
        b"__host-session",
        b"__Host-session\xe2\x80\x80",
        b"session",
    ):
        assert not await has_session(client, name + b"=" + value), name


async def test_two_session_cookies_are_not_a_session(secure_cookie: tuple[Client, bytes]) -> None:
    client, value = secure_cookie
    own, other = NAME + value, NAME + b"other"
    for headers in (
        [own, own],
        [own, other],
        [other, own],
        [own + b"; " + other],
        [other + b";" + own],
    ):
        assert not await has_session(client, *headers), headers
    assert await has_session(client, b"a=b", own, "\u2000__Host-session=other".encode())


async def test_sign_in_replaces_the_session(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, account: str
) -> None:
    """An attacker may have planted the old cookie in the browser."""
    monkeypatch.setenv("ADMIN_USERS", f"ada:{account} eve:{CHEAP_HASHER.hash(OTHER_PASSWORD)}")
    client = await aiohttp_client(create_app())
    planted = (await sign_in(client, "eve", OTHER_PASSWORD)).cookies["session"].value
    cookie = (await sign_in(client)).cookies["session"].value
    assert cookie != planted
    async with client.get("/admin/") as response:
        page = await response.text()
    assert ">ada</span>" in page
    assert "eve</span>" not in page


async def test_first_key_encrypts_and_all_keys_decrypt(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = "old" * 16, "new" * 16
    monkeypatch.setenv("SECRET_KEYS", old)
    client = await aiohttp_client(create_app())
    await sign_in(client)

    async def is_accepted(cookie: str, keys: str) -> bool:
        monkeypatch.setenv("SECRET_KEYS", keys)
        return await is_signed_in(await aiohttp_client(create_app()), Cookie=cookie)

    cookie = cookie_of(client)
    assert await is_accepted(cookie, old)
    assert await is_accepted(cookie, f"{new},{old}")
    assert not await is_accepted(cookie, new)
    monkeypatch.setenv("SECRET_KEYS", f"{new},{old}")
    client = await aiohttp_client(create_app())
    await sign_in(client)
    cookie = cookie_of(client)
    assert await is_accepted(cookie, new)
    assert not await is_accepted(cookie, old)


async def test_cookie_of_an_application_with_other_keys_is_not_accepted(
    admin: Client, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEYS", "of-another-service-" * 3)
    other = await aiohttp_client(create_app())
    assert not await is_signed_in(other, Cookie=cookie_of(admin))
    assert (await sign_in(other)).status == 303


@pytest.mark.parametrize("cookie", ["", "x", "gAAAAA", "é", "\udcff", '"', "a" * 5000])
async def test_invalid_cookie_is_not_a_session(client: Client, cookie: str) -> None:
    assert not await is_signed_in(client, Cookie=f"session={cookie}")


async def test_session_ends_when_its_password_changes_or_its_account_goes(
    admin: Client, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, account: str
) -> None:
    accepted = []
    for users in (
        f"ada:{account}",
        f"ada:{CHEAP_HASHER.hash(OTHER_PASSWORD)}",
        f"bob:{account}",
        "",
    ):
        monkeypatch.setenv("ADMIN_USERS", users)
        other = await aiohttp_client(create_app())
        accepted.append(await is_signed_in(other, Cookie=cookie_of(admin)))
    assert accepted == [True, False, False, False]


async def test_session_ends_when_it_is_not_used(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    advance: Callable[[float], None],
) -> None:
    monkeypatch.setenv("SESSION_IDLE_TIMEOUT", "10000")
    client = await aiohttp_client(create_app())
    await sign_in(client)
    unused = cookie_of(client)
    for _ in range(3):  # each use renews the cookie
        advance(9000)
        assert await is_signed_in(client)
    used = cookie_of(client)
    advance(9000)
    client.session.cookie_jar.clear()
    assert not await is_signed_in(client, Cookie=unused)
    assert await is_signed_in(client, Cookie=used)
    client.session.cookie_jar.clear()
    advance(2000)
    assert not await is_signed_in(client, Cookie=used)


async def test_session_ends_after_its_lifetime_although_it_is_used(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    advance: Callable[[float], None],
) -> None:
    monkeypatch.setenv("SESSION_IDLE_TIMEOUT", "10000")
    monkeypatch.setenv("SESSION_LIFETIME", "20000")
    client = await aiohttp_client(create_app())
    await sign_in(client)
    for seconds in (9500, 9500):
        advance(seconds)
        assert await is_signed_in(client)
    cookie = cookie_of(client)
    advance(2000)
    client.session.cookie_jar.clear()
    assert not await is_signed_in(client, Cookie=cookie)
