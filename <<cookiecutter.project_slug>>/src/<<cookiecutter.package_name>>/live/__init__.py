"""Messages to all workers and all open pages: the bus, and the WebSocket /live."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aiohttp import web

from ..settings import Settings
from ..web.background import every, supervise
from ..web.context import SETTINGS
from . import sockets
from .bus import BUS, Bus
from .local import LocalBus, default_folder

__all__ = ["BUS", "EVERYBODY", "setup"]

CHECK: Final = 5.0
"""Seconds between two checks of the bus."""
EVERYBODY: Final = "everybody"
"""The channel whose messages are sent to all visitors: objects with a ``type``."""


def make_bus(settings: Settings) -> Bus:
    """Return the bus for BUS_URL, without opening it."""
    folder = settings.bus_url.removeprefix("local:")
    return LocalBus(Path(folder) if folder else default_folder())


async def open_bus(bus: Bus) -> None:
    """Open the bus. Raises SystemExit if its folder is unusable, or other users may access it."""
    try:
        await bus.open()
    except OSError as error:
        raise SystemExit(f"Cannot start, set BUS_URL: {error}") from None


async def _keep_open(app: web.Application) -> AsyncIterator[None]:
    await open_bus(app[BUS])
    yield
    await app[BUS].close()


async def _check(app: web.Application) -> None:
    await app[BUS].check()


async def live(request: web.Request) -> web.WebSocketResponse:
    """Send the messages of the channel EVERYBODY to a visitor's WebSocket."""
    async with request.app[BUS].subscribe(EVERYBODY) as messages:
        return await sockets.stream(request, messages)


def setup(app: web.Application) -> None:
    """Add the bus and the WebSocket to the application."""
    app[BUS] = make_bus(app[SETTINGS])
    app.cleanup_ctx.append(_keep_open)
    supervise(app, every(CHECK, _check))
    app.router.add_get("/live", live, name="live", allow_head=False)
