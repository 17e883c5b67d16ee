"""Handling of connections, the same in every server that runs the application."""

import asyncio
import fcntl
import logging
import select
import socket
import struct
import termios
from contextlib import suppress
from random import getrandbits
from typing import Any, Final, NamedTuple, cast

from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..logs import REQUEST_ID
from ..settings import Settings
from . import headers
from .access_log import AccessLogger
from .errors import PROBLEM
from .hosts import host_name

logger = logging.getLogger(__name__)

MAX_FRAMING: Final = 16 * 1024
"""Maximum size of the framing of chunks in a body, in bytes, plus a quarter of the data."""
HALF_CLOSED_TIMEOUT: Final = 5.0
"""Timeout of a client that has shut down its sending side, in seconds: it counts as disconnected
if nothing is sent to it for this long."""
_FIRST_CHECK: Final = 0.05
"""Seconds until the first check of this client; the delay doubles each time, up to one second."""


def handler_args(settings: Settings) -> dict[str, Any]:
    """Return the arguments of aiohttp's RequestHandler, which override those of the server."""
    return {
        "auto_decompress": False,  # head.py refuses compressed bodies
        "access_log": logging.getLogger("access"),
        "access_log_class": AccessLogger,
        "handler_cancellation": True,  # do not work for a client that has disconnected
        "keepalive_timeout": settings.keepalive_timeout,  # also limits the head of a request
        "max_line_size": 8190,  # bytes of the URL; above this and the next two limits, 400
        "max_field_size": 8190,  # bytes of one header
        "max_headers": 128,
        "timeout_ceil_threshold": 60,  # seconds; heartbeats below it are not rounded up
    }


def in_origin_form(message: RawRequestMessage) -> RawRequestMessage:
    """Return the request with a path as its target; a host in the target replaces the Host header.

    See RFC 9112, section 3.2.2. aiohttp decodes a host in the target with IDNA, loses its port, and
    cannot respond if that fails.
    """
    url = message.url
    if not url.absolute:
        return message
    headers = CIMultiDict(message.headers)
    with suppress(ValueError):  # a malformed Host, or several, are refused later
        host_name(",".join(headers.getall(hdrs.HOST, ())) or url.raw_authority)
        headers[hdrs.HOST] = url.raw_authority
    target = URL.build(path=url.raw_path, query_string=url.raw_query_string, encoded=True)
    return message._replace(url=target, headers=CIMultiDictProxy(headers))


class CurrentRequest(NamedTuple):
    """The parts of a request that show its progress."""

    body: StreamReader
    writer: AbstractStreamWriter


def _is_closed_by_peer(transport: asyncio.Transport) -> bool:
    """Return True if the peer can no longer receive; over TCP, only a reset shows this."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)  # POLLHUP and POLLERR
    return bool(poll.poll(0))


class Unsent(NamedTuple):
    """Number of bytes that a client has not received yet."""

    here: int
    """In this process, because the kernel accepts no more."""
    kernel: int


def _unsent(transport: asyncio.Transport) -> Unsent:
    here, kernel = transport.get_write_buffer_size(), 0
    if here:
        with suppress(OSError):  # not supported for the sockets of every system
            descriptor = transport.get_extra_info("socket").fileno()
            (kernel,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    return Unsent(here, kernel)


class Connection(web.RequestHandler):
    """Connection that can be closed when idle, and does not echo malformed requests.

    aiohttp's own response echoes them, cookies included: a script could read HttpOnly cookies.
    """

    __slots__ = ("_accepted", "_framing", "_heard", "_stalled", "_unsent", "_watched", "current")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Initialize the connection: no request, and nothing to send."""
        self._heard = 0.0
        self.current: CurrentRequest | None = None
        self._accepted = cast(asyncio.Transport, transport)  # aiohttp clears its own on close
        self._unsent, self._stalled = Unsent(0, 0), 0
        self._watched: StreamReader | None = None
        super().connection_made(transport)
        if self._task_handler is not None:
            self._task_handler.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Close the connection when its task ends for any reason: nothing else would close it."""
        if not task.cancelled() and (error := task.exception()):
            logger.error("a connection has failed", exc_info=error)
        if self.transport is not None:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the handler."""
        super().connection_lost(exc)
        self.current = None  # it holds a reference to this connection

    def resume_writing(self) -> None:
        """Record that the client has received most of the data."""
        self._unsent, self._stalled = Unsent(0, 0), 0
        super().resume_writing()

    def close_if_stalled(self, least: float) -> None:
        """Abort if, twice in a row, the client received fewer than ``least`` bytes between calls.

        Once is not enough: between two processes of one host, TCP moves up to 95 KB at a time.
        """
        before, self._unsent = self._unsent, _unsent(self._accepted)
        taken = before.kernel - self._unsent.kernel
        stalled = 0 < before.here <= self._unsent.here and taken < least
        self._stalled = self._stalled + 1 if stalled else 0
        if self._stalled == 2:
            logger.info("cut off a client that does not read its responses")
            # With a reset: otherwise the kernel would keep up to 4 MiB of data for two minutes.
            at_once = struct.pack("ii", 1, 0)
            connection = self._accepted.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self._accepted.abort()

    def data_received(self, data: bytes) -> None:
        """Process data from the client."""
        self._heard = self._loop.time()
        body = self.current.body if self.current else None
        before = body.total_bytes if body else 0
        super().data_received(data)
        if body is not None and not body.is_eof():
            self._check_framing(body, len(data) - (body.total_bytes - before))

    def _check_framing(self, body: StreamReader, more: int) -> None:
        """Abort if the body arrives in chunks of a few bytes: each costs as much as 1 KiB."""
        if body is not self._watched:
            self._watched, self._framing = body, 0
        self._framing += more
        # While reading is paused, aiohttp may hold data that it has not parsed.
        reading = self._accepted.is_reading()
        if reading and self._framing > MAX_FRAMING + body.total_bytes // 4:
            logger.info("cut off a client whose chunks are too small")
            self._accepted.abort()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio accepts True
        """Keep the connection open for the responses to requests that were received completely."""
        if self.ssl_context is not None:  # asyncio closes it in any case
            return False
        self._check_half_closed(self._loop.time() + HALF_CLOSED_TIMEOUT, 0, _FIRST_CHECK)
        return self.transport is not None and not self.transport.is_closing()

    def _check_half_closed(self, deadline: float, sent_before: int, delay: float) -> None:
        """Close the connection, which cancels the handler, unless a response is in progress.

        Over TCP, a client that has closed the connection looks like one that has shut down its
        sending side, until something is sent to it. So there is a deadline; sent data extends it.
        """
        self.close_if_idle(0)
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        now, sent = self._loop.time(), 0
        if self.current is not None:
            upgraded = self._payload_parser is not None  # to WebSocket
            if upgraded or not self.current.body.is_eof():
                transport.close()
                return
            sent = self.current.writer.output_size
        # A client that has disconnected will reject the data that waits to be sent.
        if sent != sent_before or transport.get_write_buffer_size():
            deadline = now + HALF_CLOSED_TIMEOUT
        if now >= deadline or _is_closed_by_peer(transport):
            transport.abort()
        else:
            following = min(2 * delay, 1.0)
            self._loop.call_later(delay, self._check_half_closed, deadline, sent, following)

    def close_if_idle(self, seconds: float) -> None:
        """Close the connection if it has no request in progress, and was silent for ``seconds``."""
        waits = self._waiter is not None and not self._waiter.done()
        answered = self._next_keepalive_close_time - self._keepalive_timeout
        since = max(answered, self._heard)
        if waits and self._loop.time() - since >= seconds:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to an error that occurred before any middleware ran."""
        # UnicodeEncodeError: from aiohttp's response to an unknown Expect that is not text.
        malformed = isinstance(exc, HttpProcessingError | UnicodeEncodeError)
        if not malformed or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        request_id = f"{getrandbits(128):032x}"
        REQUEST_ID.set(request_id)
        problem = {"type": "about:blank", "title": "Bad Request", "status": 400}
        response = web.json_response(
            problem | {"request_id": request_id}, status=400, content_type=PROBLEM
        )
        headers.harden(response, request_id)
        response.headers[hdrs.SERVER] = "aiohttp"  # otherwise aiohttp adds its version
        response.force_close()
        return response
