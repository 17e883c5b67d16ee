"""Handlers of the public pages."""

from typing import Final

from aiohttp import hdrs, web

from .. import about
from ..web.headers import REVALIDATE
from ..web.static import STATIC
from ..web.templating import render

ONE_DAY: Final = "public, max-age=86400"


async def index(request: web.Request) -> web.Response:
    """Render the home page."""
    response = render(request, "index.html")
    response.headers[hdrs.CACHE_CONTROL] = REVALIDATE
    return response


async def about_page(request: web.Request) -> web.Response:
    """Render the page about this site."""
    response = render(request, "about.html")
    response.headers[hdrs.CACHE_CONTROL] = REVALIDATE
    return response


async def about_json(_request: web.Request) -> web.Response:
    """Return the name, description and author of this site as JSON."""
    return web.json_response(
        {"name": about.NAME, "description": about.DESCRIPTION, "author": about.AUTHOR},
        headers={hdrs.CACHE_CONTROL: REVALIDATE},
    )


async def favicon(request: web.Request) -> web.StreamResponse:
    """Send the icon from /favicon.ico, which browsers request if a page names no other icon."""
    return await request.app[STATIC].respond(request, "favicon.ico", cache=ONE_DAY)


async def robots(request: web.Request) -> web.StreamResponse:
    """Send the rules for crawlers from /robots.txt."""
    return await request.app[STATIC].respond(request, "robots.txt", cache=ONE_DAY)
