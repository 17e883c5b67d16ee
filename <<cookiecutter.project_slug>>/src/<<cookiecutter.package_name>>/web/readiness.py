"""What has to work before this worker should get requests; asked by /readyz."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]
CHECKS: Final = web.AppKey("CHECKS", dict[str, Check])

PATIENCE: Final = 2.0
"""Seconds that a check may take; a probe usually waits for one to five."""


def add_check(app: web.Application, name: str, check: Check) -> None:
    """Have /readyz await ``check()``; the resource is down when it raises or takes too long."""
    app.setdefault(CHECKS, {})[name] = check


async def down(app: web.Application) -> list[str]:
    """Return the names of the resources that are down, having asked them all at once."""

    async def is_down(name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                await check()
        except Exception as error:
            logger.warning("not ready: %s: %r", name, error)
            return True
        return False

    checks = app[CHECKS]
    answers = await asyncio.gather(*(is_down(name, check) for name, check in checks.items()))
    return [name for name, bad in zip(checks, answers, strict=True) if bad]
