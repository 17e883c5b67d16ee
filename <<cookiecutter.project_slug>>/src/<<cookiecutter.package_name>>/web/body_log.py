"""Middleware factory that logs the bodies of JSON requests, for development."""

import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

logger = logging.getLogger(__name__)


def body_log(limit: int) -> Middleware:
    """Return a middleware that logs JSON bodies of up to ``limit`` bytes.

    aiohttp keeps a body that was read, so the handler can still read it. Forms are not logged,
    because they contain passwords. Nor are bodies of unknown length: they are streamed so that they
    need not be kept in memory.
    """

    @web.middleware
    async def body_log_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        size = request.content_length or 0
        if request.content_type == "application/json" and 0 < size <= limit:
            body = await request.read()
            logger.info("request body", extra={"body": body.decode(errors="replace")})
        return await handler(request)

    return body_log_middleware
