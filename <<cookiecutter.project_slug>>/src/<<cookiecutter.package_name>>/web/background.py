"""Background tasks of the application, from start-up to clean-up."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import web

from .context import SETTINGS

logger = logging.getLogger(__name__)

Work = Callable[[web.Application], Awaitable[None]]

FIRST_DELAY: Final = 1.0
"""Seconds until crashed work is restarted; the delay doubles with each further crash."""
LONGEST_DELAY: Final = 60.0
"""Maximum delay, in seconds; it is reset when work has run for longer than this."""


def _is_cancelled() -> bool:
    """Return True if this task itself is being cancelled, rather than an awaitable inside it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _again_and_again(app: web.Application, work: Work) -> None:
    delay = FIRST_DELAY
    while True:
        started = time.monotonic()
        try:
            await work(app)
            return
        except (Exception, asyncio.CancelledError) as error:
            if _is_cancelled():
                if not isinstance(error, asyncio.CancelledError):
                    logger.exception("%s crashed in the end", work.__qualname__)
                raise asyncio.CancelledError from None
            if time.monotonic() - started > LONGEST_DELAY:
                delay = FIRST_DELAY
            logger.exception("%s crashed, and starts again in %g s", work.__qualname__, delay)
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY)


def supervise(app: web.Application, work: Work) -> None:
    """Run ``work(app)`` for the lifetime of the application; if it crashes, log and restart it.

    At clean-up it is cancelled, and awaited for up to GRACEFUL_TIMEOUT.
    """

    async def live(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_again_and_again(app, work))
        yield
        task.cancel()
        await asyncio.wait([task], timeout=app[SETTINGS].graceful_timeout)

    app.cleanup_ctx.append(live)


def every(seconds: float, work: Work) -> Work:
    """Return a function for supervise() that repeats ``work(app)`` every ``seconds``.

    At clean-up, a run that has begun is completed if that takes less than GRACEFUL_TIMEOUT.
    """

    async def forever(app: web.Application) -> None:
        while True:
            await asyncio.sleep(seconds)
            turn = asyncio.ensure_future(work(app))
            try:
                await asyncio.shield(turn)
            except asyncio.CancelledError:
                if _is_cancelled():
                    patience = 0.9 * app[SETTINGS].graceful_timeout  # less than in supervise()
                    await asyncio.wait([turn], timeout=patience)
                    turn.cancel()
                raise

    forever.__qualname__ = work.__qualname__
    return forever
