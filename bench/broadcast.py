"""The smallest aiohttp application that sends to all its WebSockets: the reference of /live."""

from time import monotonic
from typing import Literal

from aiohttp import web

Socket = web.WebSocketResponse[Literal[True]]
SOCKETS = web.AppKey("SOCKETS", set[Socket])


async def live(request: web.Request) -> web.WebSocketResponse:
    """Keep a WebSocket until its client leaves."""
    ws = web.WebSocketResponse(protocols=("live.v1",), compress=False)
    await ws.prepare(request)
    request.app[SOCKETS].add(ws)
    try:
        async for _ in ws:
            pass
    finally:
        request.app[SOCKETS].discard(ws)
    return ws


async def publish(request: web.Request) -> web.Response:
    """Send the current time to all clients."""
    message = {"type": "bench", "sent": monotonic()}
    for ws in [*request.app[SOCKETS]]:
        await ws.send_json(message)
    return web.Response()


async def index(_request: web.Request) -> web.Response:
    """Respond with 200, to show that the server runs."""
    return web.Response()


app = web.Application()
app[SOCKETS] = set()
app.add_routes([web.get("/", index), web.get("/live", live), web.post("/publish", publish)])
