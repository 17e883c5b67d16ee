"""Graceful shutdown of a worker, without losing requests.

If a connection is closed while a proxy writes a request to it, the request is lost. So open
connections are served until the client has received ``Connection: close``, or has been silent for
so long that it will not use the connection again.
"""

import asyncio
import logging
import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web

from .connection import Connection, CurrentRequest, in_origin_form
from .context import SETTINGS, get_context
from .limits import MIN_RATE

logger = logging.getLogger(__name__)

DRAINING: Final = web.AppKey("DRAINING", asyncio.Event)
"""Set when the application is about to stop: long-lived work must end, and none must start."""

BACKLOG: Final = 2048
"""Maximum number of connections that wait to be accepted: gunicorn's default. With aiohttp's, 128,
a proxy that opens many connections at once over a Unix socket is refused."""

LAST_WORDS: Final = 1.0
"""Seconds that cancelled handlers have for clean-up."""


async def _close_connection(request: web.Request, response: web.StreamResponse) -> None:
    if get_context(request).app[DRAINING].is_set() and response.status != 101:
        response.force_close()
        response.headers[hdrs.CONNECTION] = "close"


async def _begin(app: web.Application) -> None:
    app[DRAINING].set()


def setup(app: web.Application) -> None:
    """Notify the parts of the application, and its clients, when it is about to stop."""
    app[DRAINING] = asyncio.Event()
    app.on_shutdown.append(_begin)
    app.on_response_prepare.append(_close_connection)


class Server(web.Server):
    """Server whose connections are managed by the runner until they are closed."""

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        """Do not close any connection yet."""

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Cancel the remaining handlers, and close their connections."""
        if tasks := [task for each in self._connections if (task := each._task_handler)]:
            logger.warning("%d connections are cut off", len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=LAST_WORDS)
        await super().shutdown(0.1)


def _hide(site: web.UnixSite) -> None:
    """Remove the path of the socket, so that no new client can connect."""
    Path(site._path).unlink(missing_ok=True)


async def _accept_the_last(site: web.BaseSite) -> None:
    """Accept the connections that wait: they would be reset when the socket is closed.

    By then a proxy has written its request, which would be lost.
    """
    sockets = getattr(site._server, "sockets", ())
    for _ in range(BACKLOG):
        if not sockets or not select.select(sockets, (), (), 0)[0]:
            return
        await asyncio.sleep(0)


class Runner(web.AppRunner):
    """Runner that stops accepting connections, drains the open ones, and only then cleans up."""

    def __init__(self, app: web.Application, *, hurry: Sequence[signal.Signals] = ()) -> None:
        """Initialize the runner; the signals in ``hurry`` end a drain early."""
        super().__init__(app)
        self._hurry = hurry
        self._watching: asyncio.Task[None] | None = None

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()

        def make_request(*parts: Any) -> web.BaseRequest:
            message, body, connection, writer, _ = parts
            connection.current = CurrentRequest(body, writer)
            return made.request_factory(in_origin_form(message), *parts[1:])

        return Server(
            made.request_handler,
            request_factory=make_request,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )

    def _reg_site(self, site: web.BaseSite) -> None:
        super()._reg_site(site)
        site._backlog = BACKLOG

    async def setup(self) -> None:
        """Start the application, and monitor its connections.

        If a part fails to start, the others are cleaned up: gunicorn's worker would not do that.
        """
        try:
            await super().setup()
        except BaseException:
            await self.cleanup()
            raise
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Abort the connections of clients that do not read: a normal close would wait for them."""
        seconds = self.app[SETTINGS].read_timeout
        while True:
            await asyncio.sleep(seconds)
            for each in self._open():
                each.close_if_stalled(MIN_RATE * seconds)

    async def cleanup(self) -> None:
        """Stop accepting connections, drain the open ones, and clean up."""
        loop = asyncio.get_running_loop()
        for site in self.sites:
            if isinstance(site, web.UnixSite):
                _hide(site)
                await _accept_the_last(site)
            # When the server closes, asyncio would reset connections that it has not yet set up.
            for listening in getattr(site._server, "sockets", ()):
                loop.remove_reader(listening.fileno())
        await asyncio.sleep(0)
        await super().cleanup()
        if self._watching is not None:
            self._watching.cancel()

    async def shutdown(self) -> None:
        """Wait until all connections are closed, up to GRACEFUL_TIMEOUT or the next signal."""
        loop = asyncio.get_running_loop()
        settings = self.app[SETTINGS]
        over = asyncio.Event()
        deadline = loop.call_later(settings.graceful_timeout, over.set)

        def hurry() -> None:
            over.set()
            for number in self._hurry:  # the next signal ends the process
                loop.remove_signal_handler(number)

        for number in self._hurry:
            loop.add_signal_handler(number, hurry)
        logger.info("draining %d connections", len(self._open()))
        try:
            await super().shutdown()
            while (connections := self._open()) and not over.is_set():
                for each in connections:
                    each.close_if_idle(settings.drain_timeout)
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), 0.05)
        finally:
            deadline.cancel()

    def _open(self) -> list[Any]:
        return self.server.connections if self.server else []
