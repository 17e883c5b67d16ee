"""The runner for both servers: gunicorn calls make_runner, ``python -m`` calls serve."""

import asyncio
import gc
import logging
import signal
import socket
import stat
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from . import logs
from .app import create_app
from .environment import doubts
from .settings import Settings, load_settings
from .web.shutdown import Runner

logger = logging.getLogger(__name__)


async def make_runner(
    settings: Settings | None = None,
    hurry: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGQUIT),
) -> web.AppRunner:
    """Return a runner of a new application, which is not set up yet; configure logging.

    gunicorn's aiohttp workers accept a coroutine function like this in place of an application, and
    set the runner up themselves. A stopping worker drains until it receives one of ``hurry``.
    SIGTERM is not one of them by default, because gunicorn repeats it every second.
    """
    settings = settings or load_settings()
    logs.configure(level=settings.log_level, json=not settings.development)
    for sentence in doubts():
        logger.warning(sentence)
    app = create_app(settings)
    # Exclude permanent objects from garbage collection, which would stop the process for 50 ms.
    gc.freeze()
    return Runner(app, hurry=hurry)


def _refuse_used_socket(path: Path) -> None:
    """Raise OSError if ``path`` exists, unless it is a socket on which no process listens.

    asyncio replaces any existing socket, and would take it from a running server.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
    raise FileExistsError(f"another server listens on {path}")


def _site(runner: web.AppRunner, address: str) -> web.BaseSite:
    """Return a site for an address. Raises FileExistsError if a socket is in use."""
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        _refuse_used_socket(path)
        return web.UnixSite(runner, path)
    host, _, port = address.rpartition(":")
    return web.TCPSite(runner, host.strip("[]"), int(port))


async def serve(settings: Settings, *addresses: str) -> None:
    """Serve on addresses (host:port, or unix:path) until SIGINT or SIGTERM; then stop gracefully.

    A second signal skips the drain, a third one kills the process. Raises SystemExit if it cannot
    listen on an address.
    """
    stopped = _stop_on_signal()  # first, so that a signal during the start is not lost
    runner = await make_runner(settings, (signal.SIGINT, signal.SIGTERM))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        for address in addresses:
            try:
                site = _site(runner, address)
                await site.start()
            except OSError as error:
                reason = error.strerror or error
                raise SystemExit(f"Cannot listen on {address}: {reason}") from None
            logger.info("listening on %s", site.name)
        await stopped.wait()


def _stop_on_signal() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped
