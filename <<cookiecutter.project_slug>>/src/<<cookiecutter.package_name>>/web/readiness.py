"""Checks that must pass before this worker should get requests, reported by /readyz."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]
CHECKS: Final = web.AppKey("CHECKS", dict[str, Check])

PATIENCE: Final = 2.0
"""Timeout of a check, in seconds; a probe usually waits for one to five seconds."""


def add_check(app: web.Application, name: str, check: Check) -> None:
    """Add a check for /readyz; the resource is down if ``check()`` raises an error or times out."""
    app.setdefault(CHECKS, {})[name] = check


async def down(app: web.Application) -> list[str]:
    """Run all checks concurrently, and return the names of the resources that are down."""

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
