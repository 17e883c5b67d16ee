"""Announcements: a sentence that appears on all open pages of the site."""

import logging
from typing import Final

from aiohttp import web

from ..live import BUS, EVERYBODY
from ..web import nesting
from ..web.context import get_context
from ..web.errors import InvalidError
from ..web.forms import read_form

logger = logging.getLogger(__name__)

LONGEST: Final = 500
"""Maximum number of characters of an announcement."""


async def announce(request: web.Request) -> web.Response:
    """Publish an announcement. Raises InvalidError if it is empty or too long."""
    text = (await read_form(request)).get("text", "").strip()
    if not 0 < len(text) <= LONGEST:
        detail = f"An announcement has 1 to {LONGEST} characters."
        raise InvalidError([{"pointer": "#/text", "detail": detail}])
    bus = request.config_dict[BUS]
    await bus.publish(EVERYBODY, {"type": "announcement", "text": text})
    logger.info("announced")
    raise web.HTTPSeeOther(nesting.url_for(get_context(request).app, "admin:overview"))
