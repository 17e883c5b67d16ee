"""Health checks for process managers and load balancers.

/livez reports if the process is alive (if not, restart it), /readyz if it should get requests.
"""

from aiohttp import web

from ..web.lag import worst_lag
from ..web.readiness import down
from ..web.shutdown import DRAINING


async def livez(request: web.Request) -> web.Response:
    """Respond with 200 and the event-loop lag while the event loop runs; check no resource."""
    return web.json_response({"status": "alive", "lag_ms": round(worst_lag(request.app) * 1000)})


async def readyz(request: web.Request) -> web.Response:
    """Respond with 200 if every resource is available, else with 503 and the unavailable ones.

    Respond with 503 also when this worker is about to stop.
    """
    if request.app[DRAINING].is_set():
        return web.json_response({"status": "draining", "down": []}, status=503)
    names = await down(request.app)
    return web.json_response(
        {"status": "not ready" if names else "ready", "down": names}, status=503 if names else 200
    )
