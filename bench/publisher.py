"""The baked application with a route that publishes to everybody: ``publisher:make_runner``."""

from time import monotonic

from aiohttp import web
from my_service import server
from my_service.live import BUS, EVERYBODY


async def publish(request: web.Request) -> web.Response:
    """Tell everybody when this was sent."""
    await request.app[BUS].publish(EVERYBODY, {"type": "bench", "sent": monotonic()})
    return web.Response()


async def make_runner() -> web.AppRunner:
    """Return what the baked ``server.make_runner`` does, with the route."""
    runner = await server.make_runner()
    runner.app.router.add_post("/publish", publish)
    return runner
