"""Password checks: their cost, and the limits of attempts and of the queue."""

import asyncio
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Literal

import pytest
from aiohttp import ClientResponse, hdrs, web
from argon2 import PasswordHasher, extract_parameters
from limits import RateLimitItemPerMinute
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import passwords
from package_name.admin import accounts
from package_name.app import create_app
from package_name.passwords import parse_account

from ..helpers import CHEAP_HASHER, TIMEOUT, Client, until
from .helpers import PASSWORD, sign_in


# % endfilter
@pytest.fixture(autouse=True)
def window(advance: Callable[[float], None]) -> None:
    """Start each test at the beginning of a window in which attempts are counted."""
    seconds = accounts.PER_CLIENT.get_expiry()
    advance(seconds - time.time() % seconds)


class Gate:
    """A fake password check that blocks until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = Event(), Event()

    def is_right(self, hashed: str, password: str) -> bool:
        self.reached.set()
        assert self.opened.wait(TIMEOUT)
        return passwords.is_right(hashed, password)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(accounts, "is_right", gate.is_right)
    yield gate
    gate.opened.set()


async def test_unknown_name_costs_the_same_hash_as_a_wrong_password(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []

    class Recorder(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            verified.append((extract_parameters(str(hash)), password))
            return super().verify(hash, password)

    right = passwords.HASHER
    recorder = Recorder(right.time_cost, right.memory_cost, right.parallelism)
    monkeypatch.setattr(passwords, "HASHER", recorder)
    for name in ("ada", "bob", "not a name"):
        assert (await sign_in(client, name, "wrong")).status == 401
    assert verified == [(extract_parameters(CHEAP_HASHER.hash("")), b"wrong")] * 3


async def test_attempts_of_a_client_at_an_account_are_limited(client: Client) -> None:
    limit = accounts.PER_CLIENT_AND_ACCOUNT
    for _ in range(limit.amount - 1):
        assert (await sign_in(client, password="wrong")).status == 401
    assert (await sign_in(client)).status == 303  # resets the counter
    for _ in range(limit.amount):
        assert (await sign_in(client, password="wrong")).status == 401
    response = await sign_in(client)
    assert response.status == 429
    assert 0 < int(response.headers[hdrs.RETRY_AFTER]) <= limit.get_expiry()
    assert "Too many attempts" in await response.text()
    assert (await sign_in(client, "bob")).status == 401  # has a separate limit


async def test_attempts_of_all_clients_at_an_account_are_limited(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PER_ACCOUNT", RateLimitItemPerMinute(3, 5))
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    client = await aiohttp_client(create_app())
    answers = [
        await sign_in(client, password="wrong", X_Forwarded_For=f"203.0.113.{n}") for n in range(4)
    ]
    assert [answer.status for answer in answers] == [401, 401, 401, 429]


async def test_invalid_names_are_counted_as_one(client: Client) -> None:
    """Otherwise each of them would take memory."""
    limit = accounts.PER_CLIENT_AND_ACCOUNT.amount
    answers = [await sign_in(client, f"{n} " * 1000) for n in range(limit + 1)]
    assert [answer.status for answer in answers] == [401] * limit + [429]


async def test_attempts_of_a_client_or_its_ipv6_network_are_limited(
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

    # The client may add forged addresses in front of its own, which the proxy appends.
    assert await statuses(*(f"198.51.100.{n}, 203.0.113.7" for n in range(4))) == [401] * 3 + [429]
    assert await statuses("203.0.113.8") == [401]
    same_network = [f"2001:db8:0:1::{n}" for n in range(4)]
    assert await statuses(*same_network, "2001:db8:0:2::1") == [401] * 3 + [429] + [401]


async def test_spoofed_address_does_not_evade_the_limit(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PER_CLIENT", RateLimitItemPerMinute(2, 5))
    client = await aiohttp_client(create_app())
    answers = [await sign_in(client, X_Forwarded_For=f"203.0.113.{n}") for n in range(3)]
    assert [answer.status for answer in answers] == [303, 303, 429]


async def test_hashing_does_not_block_the_event_loop(client: Client, gate: Gate) -> None:
    attempt = asyncio.create_task(sign_in(client))
    await until(gate.reached.is_set)
    async with client.get("/livez") as response:
        assert response.status == 200
    assert not attempt.done()
    gate.opened.set()
    assert (await attempt).status == 303


async def test_attempts_beyond_the_queue_are_503(
    client: Client, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "PER_CLIENT", RateLimitItemPerMinute(1000, 5))
    attempts = [asyncio.create_task(sign_in(client, f"n{number}")) for number in range(40)]
    await until(lambda: sum(map(asyncio.Task.done, attempts)) == 40 - accounts.MAX_WAITING)
    for attempt in filter(asyncio.Task.done, attempts):
        assert attempt.result().status == 503
        assert attempt.result().headers[hdrs.RETRY_AFTER]
    gate.opened.set()
    answers: list[ClientResponse] = await asyncio.gather(*attempts)
    assert [answer.status for answer in answers].count(401) == accounts.MAX_WAITING
    assert (await sign_in(client)).status == 303


async def test_cancelled_attempt_keeps_its_place_while_it_is_hashed(
    account: str, gate: Gate
) -> None:
    """Otherwise clients could queue more work by disconnecting and coming back."""
    checker = accounts.Accounts([parse_account(f"ada:{account}")])
    running = checker.run(web.Application())
    await anext(running)
    attempts = [
        asyncio.create_task(checker.check(f"n{n}", "wrong", f"192.0.2.{n}"))
        for n in range(accounts.MAX_WAITING)
    ]
    await until(gate.reached.is_set)
    with pytest.raises(web.HTTPServiceUnavailable):
        await checker.check("ada", PASSWORD, "192.0.2.99")
    for attempt in attempts:
        attempt.cancel()
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    await until(lambda: checker._waiting == 1)
    await asyncio.sleep(0)
    assert checker._waiting == 1  # the one that is being hashed
    gate.opened.set()
    assert await checker.check("ada", PASSWORD, "192.0.2.99")
    await until(lambda: checker._waiting == 0)
    await anext(running, None)


async def test_without_accounts_sign_in_fails_and_the_log_says_why(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ADMIN_USERS", "")
    client = await aiohttp_client(create_app())
    assert (await sign_in(client, "", "")).status == 401
    assert "ADMIN_USERS is empty" in caplog.text
