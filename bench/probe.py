"""The baked application with a route that reports its worker's CPU time: ``probe:make_runner``."""

import asyncio
import time
from collections.abc import AsyncIterator

from aiohttp import web
from my_service import server

PATH = "/_probe"
INTERVAL = 0.002
"""Seconds between two readings of the clock."""

worst = 0.0


async def _watch() -> None:
    global worst
    while True:
        clock, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(INTERVAL)
        late = time.monotonic() - clock - INTERVAL
        # On a busy machine the loop is late even if this process does nothing.
        worst = max(worst, min(late, time.process_time() - cpu))


async def _run(_app: web.Application) -> AsyncIterator[None]:
    watching = asyncio.create_task(_watch())
    yield
    watching.cancel()


async def probe(_request: web.Request) -> web.Response:
    """Return the worker's CPU time, and the longest block of its loop since the last call."""
    global worst
    block, worst = worst, 0.0
    return web.json_response({"cpu": time.process_time(), "block": block})


async def make_runner() -> web.AppRunner:
    """Return the runner of the baked ``server.make_runner``, with the route."""
    runner = await server.make_runner()
    runner.app.router.add_get(PATH, probe)
    runner.app.cleanup_ctx.append(_run)
    return runner
