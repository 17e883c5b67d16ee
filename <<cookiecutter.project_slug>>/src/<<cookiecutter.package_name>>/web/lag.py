"""How late the event loop is: what blocks it makes everybody in this worker wait."""

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
"""Measurements that count: those of the last ten seconds."""
HIGH: Final = 0.1
"""Seconds that are worth a line in the log: about what people notice."""


async def _measure(app: web.Application) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(INTERVAL)
        late = max(time.monotonic() - before - INTERVAL, 0.0)
        app[LAG][:] = [*app[LAG], late][-KEPT:]
        if late > HIGH:
            logger.warning("the event loop was blocked for %.0f ms", late * 1000)


def worst_lag(app: web.Application) -> float:
    """Return by how much the event loop was late at worst, lately, in seconds."""
    lately = app[LAG]
    return max(lately, default=0.0)


def setup(app: web.Application) -> None:
    """Measure the lag as long as the application lives."""
    app[LAG] = []
    supervise(app, _measure)
