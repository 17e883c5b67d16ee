"""Work of the application itself, from start-up to clean-up (rows W14 and W20)."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import web

from ..settings import SETTINGS

logger = logging.getLogger(__name__)

Work = Callable[[web.Application], Awaitable[None]]

FIRST_DELAY: Final = 1.0
"""Seconds after which work that crashed starts again; each further crash doubles them."""
LONGEST_DELAY: Final = 60.0
"""Seconds beyond which they are not doubled; work that lasted longer than that starts afresh."""


def _is_cancelled() -> bool:
    """Tell whether this task is to end, and not only something that it waited for."""
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
    """Run ``work(app)`` for as long as the application lives; when it crashes, log and restart it.

    At clean-up it is cancelled, and waited for, up to GRACEFUL_TIMEOUT.
    """

    async def live(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_again_and_again(app, work))
        yield
        task.cancel()
        await asyncio.wait([task], timeout=app[SETTINGS].graceful_timeout)

    app.cleanup_ctx.append(live)


def every(seconds: float, work: Work) -> Work:
    """Return, for supervise(), what does ``work(app)`` every so many seconds.

    At clean-up a turn that has begun is finished, if that takes less than GRACEFUL_TIMEOUT.
    """

    async def forever(app: web.Application) -> None:
        while True:
            await asyncio.sleep(seconds)
            turn = asyncio.ensure_future(work(app))
            try:
                await asyncio.shield(turn)
            except asyncio.CancelledError:
                if _is_cancelled():
                    patience = 0.9 * app[SETTINGS].graceful_timeout  # less than supervise() has
                    await asyncio.wait([turn], timeout=patience)
                    turn.cancel()
                raise

    forever.__qualname__ = work.__qualname__
    return forever
