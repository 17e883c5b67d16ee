"""Telling whether a name and a password belong together, at a price that no attacker can choose."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from math import ceil
from typing import Final

from aiohttp import web
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from ..passwords import NAME, Account, dummy_hash, is_right
from ..web.executor import ContextExecutor
from ..web.limits import network

logger = logging.getLogger(__name__)

PER_CLIENT: Final = RateLimitItemPerMinute(30, 5)
"""Attempts of one client, in 5 minutes, whatever the account."""
PER_CLIENT_AND_ACCOUNT: Final = RateLimitItemPerMinute(10, 5)
"""Attempts of one client at one account, whether it exists or not; a right one starts anew."""
PER_ACCOUNT: Final = RateLimitItemPerMinute(100, 5)
"""Attempts of all clients at one account: so many that nobody is locked out by a few."""
MAX_WAITING: Final = 8
"""Attempts that may wait for their turn: one is hashed at a time, as each takes 64 MiB."""


class TooManyAttemptsError(Exception):
    """The account or the client has to wait, for so many seconds."""

    def __init__(self, seconds: int) -> None:
        """Say for how long."""
        super().__init__(seconds)
        self.seconds = seconds


class Accounts:
    """Those who may sign in to this worker."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        """Take them from the settings."""
        self._hashes = {account.name: account.hash.get_secret_value() for account in accounts}
        self._dummy_hash = dummy_hash()
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._waiting = 0

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Keep the thread that hashes (a cleanup context)."""
        self._thread = ContextExecutor(max_workers=1, thread_name_prefix="hash")
        yield
        self._thread.shutdown(cancel_futures=True)

    def hash_of(self, name: str) -> str | None:
        """Return the hash of an account's password; None if there is no such account."""
        return self._hashes.get(name)

    async def check(self, name: str, password: str, client: str) -> bool:
        """Tell whether the password is that of the account.

        Raises TooManyAttemptsError, and web.HTTPServiceUnavailable when too many wait.
        """
        if not self._hashes:
            logger.warning("nobody can sign in: ADMIN_USERS is empty")
        if self._waiting >= MAX_WAITING:
            raise web.HTTPServiceUnavailable(
                text="Too many people are signing in.", headers={"Retry-After": "2"}
            )
        client = network(client)
        known_as = name if NAME.fullmatch(name) else ""  # names that cannot be take no memory
        await self._count(PER_CLIENT, client)
        await self._count(PER_CLIENT_AND_ACCOUNT, client, known_as)
        await self._count(PER_ACCOUNT, known_as)
        right = await self._hash(self._hashes.get(name, self._dummy_hash), password)
        if right:
            await self._limiter.clear(PER_CLIENT_AND_ACCOUNT, client, known_as)
        return right

    async def _count(self, limit: RateLimitItem, *key: str) -> None:
        if not await self._limiter.hit(limit, *key):
            reset_time, _ = await self._limiter.get_window_stats(limit, *key)
            raise TooManyAttemptsError(max(1, ceil(reset_time - time.time())))

    async def _hash(self, hashed: str, password: str) -> bool:
        loop = asyncio.get_running_loop()
        job = self._thread.submit(is_right, hashed, password)
        self._waiting += 1

        def done(_job: Future[bool]) -> None:
            self._waiting -= 1

        # Not when this task ends: it may be cancelled, and the thread goes on.
        job.add_done_callback(lambda job: loop.call_soon_threadsafe(done, job))
        return await asyncio.wrap_future(job)


ACCOUNTS: Final = web.AppKey("ACCOUNTS", Accounts)


def setup(admin: web.Application, accounts: Sequence[Account]) -> None:
    """Give the admin its accounts."""
    admin[ACCOUNTS] = Accounts(accounts)
    admin.cleanup_ctx.append(admin[ACCOUNTS].run)
