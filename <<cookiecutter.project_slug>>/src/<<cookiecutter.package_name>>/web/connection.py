"""How connections are treated, whichever server runs the application (rows W2 and W26)."""

import logging
from random import getrandbits
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from ..logs import REQUEST_ID
from ..settings import Settings
from . import headers
from .access_log import AccessLogger
from .errors import PROBLEM


def handler_args(settings: Settings) -> dict[str, Any]:
    """Return what every RequestHandler of aiohttp is made with, in place of the server's own choice."""
    return {
        "access_log": logging.getLogger("access"),
        "access_log_class": AccessLogger,
        "handler_cancellation": True,  # nobody computes an answer for a client that has left
        "keepalive_timeout": settings.keepalive_timeout,  # and for the head of a request
        "max_line_size": 8190,  # bytes of the URL; more is answered 400, as for the two below
        "max_field_size": 8190,  # bytes of one header
        "max_headers": 128,
        "timeout_ceil_threshold": 60,  # seconds; heartbeats below it are not rounded up
    }


class Connection(web.RequestHandler):
    """A connection that can tell whether it idles, and that does not quote what is not HTTP.

    aiohttp's own answer does, cookies included: a script could read those that are hidden from it.
    """

    __slots__ = ("_heard",)

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        self._heard = self._loop.time()
        super().data_received(data)

    def close_if_idle(self, seconds: float) -> None:
        """Close it when no request is under way, and nothing came or went for so many seconds."""
        waits = self._waiter is not None and not self._waiter.done()
        answered = self._next_keepalive_close_time - self._keepalive_timeout
        since = max(answered, getattr(self, "_heard", 0.0))
        if waits and self._loop.time() - since >= seconds:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what failed before any middleware saw it."""
        # UnicodeEncodeError: of aiohttp's answer to an unknown Expect that is no text.
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
        response.headers[hdrs.SERVER] = "aiohttp"  # or aiohttp would add its version
        response.force_close()
        return response
