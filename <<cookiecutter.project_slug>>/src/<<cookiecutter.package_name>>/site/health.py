"""Health checks for whatever starts, stops and feeds this process.

Two questions: is the process alive (restart it if not), and should it get requests (wait if not).
"""

from aiohttp import web

from ..web.lag import worst_lag
from ..web.readiness import down
from ..web.shutdown import DRAINING


async def livez(request: web.Request) -> web.Response:
    """Answer 200 as long as the event loop turns, and how late it was; touches nothing else."""
    return web.json_response({"status": "alive", "lag_ms": round(worst_lag(request.app) * 1000)})


async def readyz(request: web.Request) -> web.Response:
    """Answer 200 when every resource answers, else 503 with the names of those that are down.

    Also 503 as soon as this worker is about to stop.
    """
    if request.app[DRAINING].is_set():
        return web.json_response({"status": "draining", "down": []}, status=503)
    names = await down(request.app)
    return web.json_response(
        {"status": "not ready" if names else "ready", "down": names}, status=503 if names else 200
    )
