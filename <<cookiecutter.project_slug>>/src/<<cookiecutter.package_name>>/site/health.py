"""Health checks for whatever starts, stops and feeds this process.

Two questions: is the process alive (restart it if not), and should it get requests (wait if not).
"""

from aiohttp import web

from ..web.readiness import down


async def livez(_request: web.Request) -> web.Response:
    """Answer 200 as long as the event loop turns; touches nothing else."""
    return web.json_response({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """Answer 200 when every resource answers, else 503 with the names of those that are down."""
    names = await down(request.app)
    return web.json_response(
        {"status": "not ready" if names else "ready", "down": names}, status=503 if names else 200
    )
