"""The public pages."""

from typing import Final

from aiohttp import hdrs, web

from .. import about
from ..web.headers import REVALIDATE
from ..web.static import STATIC
from ..web.templating import render

ONE_DAY: Final = "public, max-age=86400"


async def index(request: web.Request) -> web.Response:
    """Answer the home page."""
    response = render(request, "index.html")
    response.headers[hdrs.CACHE_CONTROL] = REVALIDATE
    return response


async def about_page(request: web.Request) -> web.Response:
    """Answer what this site is, for people."""
    response = render(request, "about.html")
    response.headers[hdrs.CACHE_CONTROL] = REVALIDATE
    return response


async def about_json(_request: web.Request) -> web.Response:
    """Answer what this site is, for programs."""
    return web.json_response(
        {"name": about.NAME, "description": about.DESCRIPTION, "author": about.AUTHOR},
        headers={hdrs.CACHE_CONTROL: REVALIDATE},
    )


async def favicon(request: web.Request) -> web.StreamResponse:
    """Send the icon from where browsers look for it when a page names none."""
    return await request.app[STATIC].respond(request, "favicon.ico", cache=ONE_DAY)


async def robots(request: web.Request) -> web.StreamResponse:
    """Send the rules for crawlers from where they look for them."""
    return await request.app[STATIC].respond(request, "robots.txt", cache=ONE_DAY)
