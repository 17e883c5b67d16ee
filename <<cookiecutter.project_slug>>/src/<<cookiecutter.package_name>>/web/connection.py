"""How connections are treated, whichever server runs the application (rows W2 and W26)."""

import logging
from typing import Any

from ..settings import Settings
from .access_log import AccessLogger


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
