"""Rate-limited password verification in constant time, whether or not the account exists."""

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
"""Maximum attempts per client in 5 minutes, over all accounts."""
PER_CLIENT_AND_ACCOUNT: Final = RateLimitItemPerMinute(10, 5)
"""Maximum attempts per client and account, which need not exist; a success resets the count."""
PER_ACCOUNT: Final = RateLimitItemPerMinute(100, 5)
"""Maximum attempts per account, over all clients: high, so a few clients cannot lock it out."""
MAX_WAITING: Final = 8
"""Maximum number of queued attempts: one is hashed at a time, because each hash takes 64 MiB."""


class TooManyAttemptsError(Exception):
    """Raised when a rate limit is exceeded, with the seconds until the next attempt is allowed."""

    def __init__(self, seconds: int) -> None:
        """Store the seconds to wait."""
        super().__init__(seconds)
        self.seconds = seconds


class Accounts:
    """The admin accounts, with the rate limits of this worker."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        """Create the accounts from the ADMIN_USERS of the settings."""
        self._hashes = {account.name: account.hash.get_secret_value() for account in accounts}
        self._dummy_hash = dummy_hash()
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._waiting = 0

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Run the thread that hashes passwords (a cleanup context)."""
        self._thread = ContextExecutor(max_workers=1, thread_name_prefix="hash")
        yield
        self._thread.shutdown(cancel_futures=True)

    def hash_of(self, name: str) -> str | None:
        """Return the hash of the account's password, or None if the account does not exist."""
        return self._hashes.get(name)

    async def check(self, name: str, password: str, client: str) -> bool:
        """Return True if the password is correct for the account.

        Raises TooManyAttemptsError, and web.HTTPServiceUnavailable if the queue is full.
        """
        if not self._hashes:
            logger.warning("nobody can sign in: ADMIN_USERS is empty")
        if self._waiting >= MAX_WAITING:
            raise web.HTTPServiceUnavailable(
                text="Too many people are signing in.", headers={"Retry-After": "2"}
            )
        client = network(client)
        known_as = name if NAME.fullmatch(name) else ""  # impossible names use no memory
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

        # Not at the end of this task: it may be cancelled while the thread continues.
        job.add_done_callback(lambda job: loop.call_soon_threadsafe(done, job))
        return await asyncio.wrap_future(job)


ACCOUNTS: Final = web.AppKey("ACCOUNTS", Accounts)


def setup(admin: web.Application, accounts: Sequence[Account]) -> None:
    """Add the accounts to the admin."""
    admin[ACCOUNTS] = Accounts(accounts)
    admin.cleanup_ctx.append(admin[ACCOUNTS].run)
