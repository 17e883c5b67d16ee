"""News."""

from aiohttp import web

from . import models  # noqa: F401


def setup(app: web.Application) -> None:
    """Add the news."""
