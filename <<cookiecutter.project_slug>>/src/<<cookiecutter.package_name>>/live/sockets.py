"""WebSockets that send the messages of a subscription."""

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
"""The subprotocol: one JSON object with a ``type`` per message; described in the README."""

HEARTBEAT: Final = 30.0
"""Seconds of silence after which a ping is sent; the client must respond within half of that."""
MAX_SIZE: Final = 4096
"""Maximum size of a message from a client, in bytes."""
MAX_MESSAGES: Final = 1000
"""Maximum number of messages, pings and pongs from a client within PATIENCE."""
PATIENCE: Final = 10.0
"""Seconds in which a client must receive a message, or complete the closing handshake."""


async def _write(ws: web.WebSocketResponse, messages: AsyncIterable[object]) -> WSCloseCode:
    """Send the messages, and return a close code at their end or if the client is too slow."""
    try:
        async for message in messages:
            async with asyncio.timeout(PATIENCE):
                await ws.send_str(orjson.dumps(message).decode())
    except (TimeoutError, SlowSubscriberError):
        return WSCloseCode.TRY_AGAIN_LATER
    except ConnectionError:  # the client has disconnected
        pass
    return WSCloseCode.OK


def _is_ping(text: str) -> bool:
    try:
        return bool(orjson.loads(text) == {"type": "ping"})
    except ValueError:
        return False


async def _read(ws: web.WebSocketResponse) -> WSCloseCode:
    """Respond to pings until the client leaves, and return a close code. Reject other messages."""
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
            await asyncio.sleep(0)  # let other clients run if one sends a flood
    return WSCloseCode.OK


async def _until(event: asyncio.Event, code: WSCloseCode) -> WSCloseCode:
    await event.wait()
    return code


async def stream(
    request: web.Request, messages: AsyncIterable[object], *, lifetime: float | None = None
) -> web.WebSocketResponse:
    """Open a WebSocket and send the messages until the client or the server closes it.

    It is closed with 1001 if the server stops, with 1013 if the client is too slow, and with 1008
    if the client violates the protocol or after ``lifetime`` seconds. Raises web.HTTPBadRequest if
    the request is not a handshake, or is for another subprotocol.
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
        autoping=False,  # aiohttp would respond to a flood of pings without a pause
        max_msg_size=MAX_SIZE,
        protocols=(PROTOCOL,),
        compress=False,  # a compressor takes 256 KiB per client
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
        # A flooding client is disconnected: aiohttp would first read all that it has sent.
        if transport is not None and transport.is_reading():
            await ws.close(code=code, drain=False)
    except asyncio.CancelledError:
        if transport is None or not transport.is_closing():
            raise
        # otherwise the client has disconnected, which is a normal end
    finally:
        await _stop(tasks)
        if transport is not None:  # otherwise unread data would keep it open
            transport.abort()
    return ws


async def _stop(tasks: list[asyncio.Task[WSCloseCode]]) -> None:
    if running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
