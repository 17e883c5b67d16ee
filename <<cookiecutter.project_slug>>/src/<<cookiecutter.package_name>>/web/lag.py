"""Lag of the event loop: code that blocks the loop delays all requests of this worker."""

import asyncio
import logging
import time
from typing import Final

from aiohttp import web

from .background import supervise

logger = logging.getLogger(__name__)

LAG: Final = web.AppKey("LAG", list[float])
"""The latest measurements, in seconds, oldest first."""

INTERVAL: Final = 0.1
"""Seconds between two measurements."""
KEPT: Final = 100
"""Number of measurements that are kept: those of the last ten seconds."""
HIGH: Final = 0.1
"""Lag that is logged, in seconds: about the smallest delay that people notice."""


async def _measure(app: web.Application) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(INTERVAL)
        late = max(time.monotonic() - before - INTERVAL, 0.0)
        app[LAG][:] = [*app[LAG], late][-KEPT:]
        if late > HIGH:
            logger.warning("the event loop was blocked for %.0f ms", late * 1000)


def worst_lag(app: web.Application) -> float:
    """Return the highest recent event-loop lag, in seconds."""
    lately = app[LAG]
    return max(lately, default=0.0)


def setup(app: web.Application) -> None:
    """Measure the lag for the lifetime of the application."""
    app[LAG] = []
    supervise(app, _measure)
