"""The access log: one line a request, the same under every server."""

import logging
from time import perf_counter

import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from .context import CONTEXT
from .nesting import route_name


def body_size(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """Return the size of the body in bytes; a stream's is counted by aiohttp, headers included.

    aiohttp's own count leaves out what sendfile(2) sends, which depends on the event loop.
    """
    if request.method == hdrs.METH_HEAD or response.status in {204, 304}:
        return 0
    size = response.content_length
    return response.body_length if size is None else size


class AccessLogger(AbstractAccessLogger):
    """Write the access line through structlog: it costs half of aiohttp's own.

    aiohttp calls it in the request's own task, so the line gets the request's id as all others do.
    """

    def __init__(self, logger: logging.Logger, log_format: str) -> None:
        """Take what aiohttp gives: the logger, whose level decides, and a format that is not used."""
        super().__init__(logger, log_format)
        self._info = structlog.get_logger().bind(logger=logger.name).info

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line. aiohttp's ``time`` is not used: uvloop's clock counts milliseconds."""
        try:
            if self.logger.isEnabledFor(logging.INFO):  # each time: the level can be switched
                self._log(request, response)
        except Exception:  # or the connection would be cut
            self.logger.exception("the access line failed")

    def _log(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        if not isinstance(request, web.Request) or (context := request.get(CONTEXT)) is None:
            # Not HTTP: aiohttp answered 400 before there was a request to route.
            self._info("malformed request", client=request.remote, status=response.status)
            return
        self._info(
            "request",
            request_id=context.request_id,
            client=context.client,
            scheme="https" if context.secure else "http",
            method=request.method,
            path=request.raw_path,
            route=route_name(request.match_info),
            status=response.status,
            bytes=body_size(request, response),
            duration_ms=round((perf_counter() - context.started) * 1000, 3),
            user_agent=request.headers.get(hdrs.USER_AGENT),
        )
