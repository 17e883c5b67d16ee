"""Applications with small handlers, requests as bytes, and an executor without a free thread."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import nesting

from ..helpers import Client


# % endfilter
async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def websocket_echo(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


def echo_app() -> web.Application:
    """Return an application that echoes at /echo and /websocket, and below /nested/."""
    app, nested = create_app(), web.Application()
    for application in (app, nested):
        application.router.add_route("*", "/echo", echo)
        application.router.add_get("/websocket", websocket_echo)
    nesting.nest(app, "/nested/", "nested", nested)
    return app


def nested_app(handler: Handler) -> web.Application:
    """Return an application with routes to ``handler`` at each of three levels of nesting."""
    app, outer, inner = create_app(), web.Application(), web.Application()
    inner.router.add_get("/item/{key}", handler, name="item")
    outer.router.add_get("/", handler, name="page")
    nesting.nest(outer, "/inner/", "inner", inner)
    nesting.nest(app, "/outer/", "outer", outer)
    app.router.add_get("/unnamed", handler)
    return app


async def raw_status(client: Client, sent: bytes) -> int:
    """Send bytes to the client's server, and return the status of its response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(sent)
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


@asynccontextmanager
async def busy_threads() -> AsyncIterator[None]:
    """Keep all threads of the event loop's executor busy, with more work in its queue."""
    loop, release = asyncio.get_running_loop(), threading.Event()
    busy = [loop.run_in_executor(None, release.wait) for _ in range(64)]
    try:
        yield
    finally:
        release.set()
        await asyncio.gather(*busy)
