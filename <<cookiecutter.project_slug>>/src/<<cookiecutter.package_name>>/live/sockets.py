"""WebSockets that are sent what a subscription brings (rows W8 and W19)."""

import asyncio
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import Final

import orjson
from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from ..web.context import get_context
from ..web.shutdown import DRAINING
from .bus import SlowSubscriberError

PROTOCOL: Final = "live.v1"
"""The subprotocol: JSON objects with a ``type``, one a message; described in the README."""

HEARTBEAT: Final = 30.0
"""Seconds of silence after which the client is pinged; it has half as long to answer."""
MAX_SIZE: Final = 4096
"""Bytes of the largest message that is taken from a client."""
MAX_MESSAGES: Final = 1000
"""Messages, pings and pongs that are taken from a client within PATIENCE."""
PATIENCE: Final = 10.0
"""Seconds in which a client has to take a message, or, at the end, to say goodbye."""


async def _write(ws: web.WebSocketResponse, messages: AsyncIterable[object]) -> WSCloseCode:
    """Send the messages until there are no more, or the client is too slow for them."""
    try:
        async for message in messages:
            async with asyncio.timeout(PATIENCE):
                await ws.send_str(orjson.dumps(message).decode())
    except (TimeoutError, SlowSubscriberError):
        return WSCloseCode.TRY_AGAIN_LATER
    except ConnectionError:  # the client has left
        pass
    return WSCloseCode.OK


def _is_ping(text: str) -> bool:
    try:
        return bool(orjson.loads(text) == {"type": "ping"})
    except ValueError:
        return False


async def _read(ws: web.WebSocketResponse) -> WSCloseCode:
    """Answer pings, which are all that a client may send, until it leaves."""
    loop = asyncio.get_running_loop()
    since, received = loop.time(), 0
    with suppress(ConnectionError):
        async for message in ws:
            received += 1
            if received > MAX_MESSAGES:
                if loop.time() - since < PATIENCE:
                    return WSCloseCode.POLICY_VIOLATION
                since, received = loop.time(), 0
            if message.type is WSMsgType.PING:
                await ws.pong(message.data)
            elif message.type is WSMsgType.TEXT and _is_ping(message.data):
                await ws.send_str('{"type":"pong"}')
            elif message.type is WSMsgType.TEXT:
                return WSCloseCode.POLICY_VIOLATION
            elif message.type is not WSMsgType.PONG:
                return WSCloseCode.UNSUPPORTED_DATA
            await asyncio.sleep(0)  # a client that floods us waits its turn
    return WSCloseCode.OK


async def _until(event: asyncio.Event, code: WSCloseCode) -> WSCloseCode:
    await event.wait()
    return code


async def stream(
    request: web.Request, messages: AsyncIterable[object], *, lifetime: float | None = None
) -> web.WebSocketResponse:
    """Open a WebSocket and send it the messages, until one of the two sides has enough.

    It is closed with 1001 when the server stops, with 1013 when the client is too slow, and with
    1008 when it misbehaves or after ``lifetime`` seconds. Raises web.HTTPBadRequest when this is no
    handshake, or one for another subprotocol.
    """
    offered = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").replace(" ", "").split(",")
    if PROTOCOL not in offered:
        raise web.HTTPBadRequest(text=f"This is a WebSocket of the subprotocol {PROTOCOL}.")
    draining = get_context(request).app[DRAINING]
    if draining.is_set():
        raise web.HTTPServiceUnavailable
    transport = request.transport
    ws = web.WebSocketResponse(
        timeout=PATIENCE,
        heartbeat=HEARTBEAT,
        autoping=False,  # aiohttp would answer a flood of pings at one go
        max_msg_size=MAX_SIZE,
        protocols=(PROTOCOL,),
        compress=False,  # a compressor costs 256 KiB a client
    )
    await ws.prepare(request)
    tasks = [
        asyncio.ensure_future(each)
        for each in (
            _read(ws),
            _write(ws, messages),
            _until(draining, WSCloseCode.GOING_AWAY),
        )
    ]
    try:
        done, _ = await asyncio.wait(tasks, timeout=lifetime, return_when=asyncio.FIRST_COMPLETED)
        await _stop(tasks)
        code = next((task.result() for task in tasks if task in done), WSCloseCode.POLICY_VIOLATION)
        # A client that floods us is cut off: aiohttp would first read all that it has sent.
        if transport is not None and transport.is_reading():
            await ws.close(code=code, drain=False)
    except asyncio.CancelledError:
        if transport is None or not transport.is_closing():
            raise
        # else the client has left, which is an end like any other
    finally:
        await _stop(tasks)
        if transport is not None:  # else what a client does not read would keep it open
            transport.abort()
    return ws


async def _stop(tasks: list[asyncio.Task[WSCloseCode]]) -> None:
    if running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
