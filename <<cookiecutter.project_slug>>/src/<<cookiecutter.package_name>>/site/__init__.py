"""The public pages and the health checks."""

from aiohttp import web

from ..web.negotiation import negotiated
from ..web.templating import add_to_menu
from . import health, pages


def setup(app: web.Application) -> None:
    """Add the routes of the site."""
    app.add_routes(
        [
            web.get("/", pages.index, name="index"),
            web.get(
                "/about",
                negotiated({"text/html": pages.about_page, "application/json": pages.about_json}),
                name="about",
            ),
            web.get("/favicon.ico", pages.favicon, name="favicon"),
            web.get("/robots.txt", pages.robots, name="robots"),
            web.get("/livez", health.livez, name="livez"),
            web.get("/readyz", health.readyz, name="readyz"),
        ]
    )
    add_to_menu(app, "Home", "index")
    add_to_menu(app, "About", "about")
