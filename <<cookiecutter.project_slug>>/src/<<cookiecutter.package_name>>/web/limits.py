"""Limits for each client: the time to send a body, the number of WebSockets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv6Network, ip_address
from typing import Final

from aiohttp import web

MIN_RATE: Final = 500
"""Minimum rate of a request body, in bytes per second: the default of Apache's mod_reqtimeout."""

WEBSOCKETS: Final = web.AppKey("WEBSOCKETS", Counter[str])
"""Number of open WebSockets of this worker, by client."""


class SlowBodyError(TimeoutError):
    """Error for a request body that arrives too slowly."""


@asynccontextmanager
async def read_timeout(request: web.Request, seconds: float) -> AsyncIterator[None]:
    """Monitor a request body: reading it raises SlowBodyError if it arrives slower than MIN_RATE.

    The rate is checked every ``seconds``, but only while the handler is reading.
    """
    body, loop = request.content, asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def look(before: int) -> None:
        if body.is_eof() or request.transport is None:
            return
        if request.transport.is_reading() and body.total_bytes - before < MIN_RATE * seconds:
            body.set_exception(SlowBodyError())
        else:
            timers[:] = [loop.call_later(seconds, look, body.total_bytes)]

    timers[:] = [loop.call_later(seconds, look, 0)]
    try:
        yield
    finally:
        timers[0].cancel()


def network(client: str) -> str:
    """Return the key of a client: an IPv4 address, an IPv6 network of 64 bits, or ``unix``."""
    try:
        ip = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    return str(ip if ip.version == 4 else IPv6Network((ip, 64), strict=False))


@contextmanager
def one_websocket(app: web.Application, client: str, limit: int) -> Iterator[None]:
    """Count a WebSocket while it is open. Raises web.HTTPTooManyRequests above the limit."""
    counted, key = app[WEBSOCKETS], network(client)
    if counted[key] >= limit:
        raise web.HTTPTooManyRequests(text=f"There may be {limit} WebSockets for each client.")
    counted[key] += 1
    try:
        yield
    finally:
        counted[key] -= 1
        if not counted[key]:
            del counted[key]
