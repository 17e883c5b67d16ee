"""The baked application with a route that publishes to everybody: ``publisher:make_runner``."""

from time import monotonic

from aiohttp import web
from my_service import server
from my_service.live import BUS, EVERYBODY


async def publish(request: web.Request) -> web.Response:
    """Publish the current time to all visitors."""
    await request.app[BUS].publish(EVERYBODY, {"type": "bench", "sent": monotonic()})
    return web.Response()


async def make_runner() -> web.AppRunner:
    """Return the runner of the baked ``server.make_runner``, with the route."""
    runner = await server.make_runner()
    runner.app.router.add_post("/publish", publish)
    return runner
