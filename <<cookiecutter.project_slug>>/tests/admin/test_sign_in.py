import asyncio
import logging
import statistics
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse, hdrs
from limits import RateLimitItemPerMinute
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin import accounts
from package_name.app import create_app
from package_name.passwords import Account, parse_account

from ..helpers import CHEAP_HASHER, Client, own
from .helpers import PASSWORD, sign_in

# % endfilter
HTML = {hdrs.ACCEPT: "text/html"}
OTHER = "another password that is right"


@pytest.fixture(autouse=True)
def _in_one_window(advance: Callable[[float], None]) -> None:
    """Begin each test at the start of a window in which attempts are counted."""
    window = accounts.PER_CLIENT.get_expiry()
    advance(window - time.time() % window)


async def signed_in(client: Client, **headers: str) -> bool:
    async with client.get("/admin/", headers=headers, allow_redirects=False) as response:
        assert response.status in {200, 401}
        return response.status == 200


@pytest.mark.parametrize("path", ["/admin/", "/admin/files/", "/admin/nowhere", "/admin/files/no"])
async def test_every_page_asks_to_sign_in(client: Client, path: str) -> None:
    async with client.get(path, headers=HTML) as response:
        assert response.url.path == "/admin/login"
        assert response.url.query["next"] == path
        assert 'type="password"' in await response.text()
    async with client.get(path) as response:
        assert response.status == 401
        assert response.headers[hdrs.WWW_AUTHENTICATE] == 'Cookie form-action="/admin/login"'
    async with client.post(path, headers=HTML | own(client), allow_redirects=False) as response:
        assert response.status == 401


async def test_the_right_password_leads_to_where_one_wanted(client: Client) -> None:
    response = await sign_in(client, query="?next=/admin/files/?before=0")
    assert response.status == 303
    assert response.headers[hdrs.LOCATION] == "/admin/files/?before=0"
    assert await signed_in(client)
    async with client.get("/admin/login", headers=HTML) as response:  # there is no need any more
        assert response.url.path == "/admin/"


@pytest.mark.parametrize(
    "wanted",
    [
        *("https://evil.example/admin/", "//evil.example/admin/", "/\\evil.example", "/about"),
        *("/admin/../about", "javascript:alert(1)", "http://[", "/adminevil/", "https:/admin/x"),
    ],
)
async def test_nobody_is_led_elsewhere(client: Client, wanted: str) -> None:
    response = await sign_in(client, query=f"?next={quote(wanted)}")
    assert response.status == 303
    assert response.headers[hdrs.LOCATION] == "/admin/"


async def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(client: Client) -> None:
    answers = []
    for name, password in (("ada", "wrong"), ("bob", PASSWORD)):
        response = await sign_in(client, name, password)
        page = (await response.text()).replace(name, "NAME")
        answers.append((response.status, page.partition("<main")[2]))
        assert "session" not in response.cookies
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    assert "The name or the password is wrong." in answers[0][1]


async def test_they_take_the_same_time(client: Client) -> None:
    times: dict[str, list[float]] = {"ada": [], "bob": []}
    for _ in range(7):
        for name, taken in times.items():
            before = time.perf_counter()
            await sign_in(client, name, "wrong")
            taken.append(time.perf_counter() - before)
    ada, bob = (statistics.median(taken) for taken in times.values())
    assert 0.5 < ada / bob < 2


async def test_attempts_at_an_account_are_limited(client: Client) -> None:
    limit = accounts.PER_CLIENT_AND_ACCOUNT
    for _ in range(limit.amount - 1):
        assert (await sign_in(client, password="wrong")).status == 401
    assert (await sign_in(client)).status == 303  # and starts anew
    for _ in range(limit.amount):
        assert (await sign_in(client, password="wrong")).status == 401
    response = await sign_in(client)
    assert response.status == 429
    assert 0 < int(response.headers[hdrs.RETRY_AFTER]) <= limit.get_expiry()
    assert "Too many attempts" in await response.text()
    assert (await sign_in(client, "bob")).status == 401  # another account is not concerned


async def test_attempts_of_many_clients_at_an_account_are_limited(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PER_ACCOUNT", RateLimitItemPerMinute(3, 5))
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    client = await aiohttp_client(create_app())
    answers = [
        await sign_in(client, password="wrong", X_Forwarded_For=f"203.0.113.{n}") for n in range(4)
    ]
    assert [answer.status for answer in answers] == [401, 401, 401, 429]


async def test_names_take_no_memory(client: Client) -> None:
    """Those that no account can have are counted as one."""
    limit = accounts.PER_CLIENT_AND_ACCOUNT.amount
    answers = [await sign_in(client, f"{n} " * 1000) for n in range(limit + 1)]
    assert [answer.status for answer in answers] == [401] * limit + [429]


async def test_attempts_of_a_client_are_limited(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PER_CLIENT", RateLimitItemPerMinute(3, 5))
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    client = await aiohttp_client(create_app())

    async def statuses(*addresses: str) -> list[int]:
        return [
            (await sign_in(client, f"nobody{n}", X_Forwarded_For=address)).status
            for n, address in enumerate(addresses)
        ]

    # What the client itself wrote before its address, which the proxy appends, is no help.
    assert await statuses(*(f"198.51.100.{n}, 203.0.113.7" for n in range(4))) == [401] * 3 + [429]
    assert await statuses("203.0.113.8") == [401]
    same_network = [f"2001:db8:0:1::{n}" for n in range(4)]
    assert await statuses(*same_network, "2001:db8:0:2::1") == [401] * 3 + [429] + [401]


async def test_a_spoofed_address_is_no_help(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PER_CLIENT", RateLimitItemPerMinute(2, 5))
    client = await aiohttp_client(create_app())
    answers = [await sign_in(client, X_Forwarded_For=f"203.0.113.{n}") for n in range(3)]
    assert [answer.status for answer in answers] == [303, 303, 429]


async def test_hashing_leaves_the_loop_alone(client: Client) -> None:
    attempt = asyncio.create_task(sign_in(client))
    answered = 0
    while not attempt.done():
        async with client.get("/livez") as response:
            answered += response.status == 200
    assert (await attempt).status == 303
    assert answered > 5


async def test_a_burst_does_not_exhaust_the_worker(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PER_CLIENT", RateLimitItemPerMinute(1000, 5))
    burst = [asyncio.create_task(sign_in(client, f"n{number}")) for number in range(40)]
    answers: list[ClientResponse] = await asyncio.gather(*burst)
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {401, 503}
    assert statuses.count(401) >= accounts.MAX_WAITING
    busy = next(answer for answer in answers if answer.status == 503)
    assert busy.headers[hdrs.RETRY_AFTER]
    assert (await sign_in(client)).status == 303


async def test_those_who_leave_keep_their_place_until_it_is_free(account: str) -> None:
    """So that leaving and coming back does not let more be hashed at a time."""
    gate = accounts.Accounts([Account("ada", parse_account(f"ada:{account}").hash)])
    running = gate.run(create_app())
    await anext(running)
    attempts = [
        asyncio.create_task(gate.check(f"n{n}", "wrong", f"192.0.2.{n}"))
        for n in range(accounts.MAX_WAITING)
    ]
    await asyncio.sleep(0.02)  # the first is being hashed
    for attempt in attempts:
        attempt.cancel()
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert await gate.check("ada", PASSWORD, "192.0.2.99")
    assert gate._waiting == 0
    await anext(running, None)


async def test_attributes_of_the_cookie(
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
    assert await signed_in(client, **mine)
    # A cookie that was set without TLS is not taken for one that was set with it.
    client.session.cookie_jar.clear()
    assert not await signed_in(client, **(tls | {hdrs.COOKIE: f"session={cookie.value}"}))

    out = await client.post(
        "/admin/logout", headers=mine | {hdrs.ORIGIN: origin}, allow_redirects=False
    )
    gone = out.cookies["__Host-session"]
    assert (gone.value, gone["max-age"], gone["path"]) == ("", "0", "/")
    assert gone["secure"]  # or browsers would not take it


async def test_signing_out(admin: Client) -> None:
    async with admin.get("/admin/logout") as response:
        assert response.status == 405
    assert await signed_in(admin)
    async with admin.post("/admin/logout", headers={hdrs.ORIGIN: "https://evil.example"}) as bad:
        assert bad.status == 403
    assert await signed_in(admin)
    async with admin.post("/admin/logout") as response:
        assert response.url.path == "/admin/login"
    assert not await signed_in(admin)


async def test_a_session_is_new_at_sign_in(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, account: str
) -> None:
    """Whatever session a browser came with, as one that an attacker gave it, is forgotten."""
    monkeypatch.setenv("ADMIN_USERS", f"ada:{account} eve:{CHEAP_HASHER.hash(OTHER)}")
    client = await aiohttp_client(create_app())
    planted = (await sign_in(client, "eve", OTHER)).cookies["session"].value
    cookie = (await sign_in(client)).cookies["session"].value
    assert cookie != planted
    async with client.get("/admin/") as response:
        page = await response.text()
    assert ">ada</span>" in page
    assert "eve</span>" not in page


async def test_keys_are_rotated(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = "old" * 16, "new" * 16
    monkeypatch.setenv("SECRET_KEYS", old)
    client = await aiohttp_client(create_app())
    cookie = (await sign_in(client)).cookies["session"].value

    async def knows(keys: str, cookie: str) -> bool:
        monkeypatch.setenv("SECRET_KEYS", keys)
        other = await aiohttp_client(create_app())
        return await signed_in(other, Cookie=f"session={cookie}")

    assert await knows(old, cookie)
    assert await knows(f"{new},{old}", cookie)
    assert not await knows(new, cookie)
    monkeypatch.setenv("SECRET_KEYS", f"{new},{old}")
    cookie = (await sign_in(await aiohttp_client(create_app()))).cookies["session"].value
    assert await knows(new, cookie)  # the first key encrypts
    assert not await knows(old, cookie)


@pytest.mark.parametrize("cookie", ["", "x", "gAAAAA", "é", "\udcff", '"', "a" * 5000])
async def test_what_is_no_session_of_ours_is_none(client: Client, cookie: str) -> None:
    assert not await signed_in(client, Cookie=f"session={cookie}")


async def test_a_session_ends_with_its_password_and_its_account(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, account: str
) -> None:
    client = await aiohttp_client(create_app())
    cookie = (await sign_in(client)).cookies["session"].value
    ends = []
    for users in (f"ada:{account}", f"ada:{CHEAP_HASHER.hash(OTHER)}", f"bob:{account}", ""):
        monkeypatch.setenv("ADMIN_USERS", users)
        other = await aiohttp_client(create_app())
        ends.append(await signed_in(other, Cookie=f"session={cookie}"))
    assert ends == [True, False, False, False]


@pytest.mark.parametrize("setting", ["SESSION_IDLE_TIMEOUT", "SESSION_LIFETIME"])
async def test_a_session_ends_in_time(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """One ends unless it is used, the other in any case."""
    monkeypatch.setenv(setting, "2")
    client = await aiohttp_client(create_app())
    unused = (await sign_in(client)).cookies["session"].value
    began = time.monotonic()
    while await signed_in(client):
        assert time.monotonic() < began + 10
        if setting == "SESSION_IDLE_TIMEOUT" and time.monotonic() > began + 4:
            break
        await asyncio.sleep(0.2)
    assert time.monotonic() - began > 1.9
    assert (await signed_in(client)) == (setting == "SESSION_IDLE_TIMEOUT")
    client.session.cookie_jar.clear()
    assert not await signed_in(client, Cookie=f"session={unused}")


async def test_a_form_of_another_kind_is_refused(client: Client) -> None:
    async with client.post("/admin/login", json={"name": "ada", "password": PASSWORD}) as response:
        assert response.status == 415


async def test_what_was_typed_is_not_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the name: it may be the password, typed into the wrong field."""
    caplog.set_level(logging.DEBUG)
    await sign_in(client, "typed-as-name", "typed-as-password")
    assert "sign-in failed" in caplog.text
    assert "typed" not in caplog.text


async def test_without_accounts_nobody_gets_in_and_the_log_says_why(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ADMIN_USERS", "")
    client = await aiohttp_client(create_app())
    assert (await sign_in(client, "", "")).status == 401
    assert "ADMIN_USERS is empty" in caplog.text
