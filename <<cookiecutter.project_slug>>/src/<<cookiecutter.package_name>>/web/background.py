"""Work of the application itself, from start-up to clean-up (rows W14 and W20)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from aiohttp import web

from ..settings import SETTINGS

logger = logging.getLogger(__name__)

Work = Callable[[web.Application], Awaitable[None]]

FIRST_DELAY: Final = 1.0
"""Seconds after which work that crashed starts again; each further crash doubles them."""
LONGEST_DELAY: Final = 60.0
"""Seconds beyond which they are not doubled; work that lasted longer than that starts afresh."""


async def _again_and_again(app: web.Application, work: Work) -> None:
    delay = FIRST_DELAY
    while True:
        started = monotonic()
        try:
            await work(app)
            return
        except Exception:
            if monotonic() - started > LONGEST_DELAY:
                delay = FIRST_DELAY
            logger.exception("%s crashed, and starts again in %g s", work.__qualname__, delay)
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY)


def supervise(app: web.Application, work: Work) -> None:
    """Run ``work(app)`` for as long as the application lives; when it crashes, log and restart it.

    At clean-up it is cancelled, and waited for.
    """

    async def live(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_again_and_again(app, work))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app.cleanup_ctx.append(live)


def every(seconds: float, work: Work) -> Work:
    """Return, for supervise(), what does ``work(app)`` every so many seconds.

    At clean-up a turn that has begun is finished, if that takes no longer than GRACEFUL_TIMEOUT.
    """

    async def forever(app: web.Application) -> None:
        while True:
            await asyncio.sleep(seconds)
            turn = asyncio.ensure_future(work(app))
            try:
                await asyncio.shield(turn)
            except asyncio.CancelledError:
                await asyncio.wait([turn], timeout=app[SETTINGS].graceful_timeout)
                turn.cancel()
                raise

    forever.__qualname__ = work.__qualname__
    return forever
