"""The public pages and the health checks."""

from aiohttp import web

from ..web import cors
from ..web.guard import ANY_HOST
from ..web.negotiation import negotiated
from ..web.templating import add_to_menu
from . import health, pages


def setup(app: web.Application) -> None:
    """Add the routes to the application."""
    about = negotiated({"text/html": pages.about_page, "application/json": pages.about_json})
    cors.allow(app, app.router.add_get("/about", about, name="about"))
    app.add_routes(
        [
            web.get("/", pages.index, name="index"),
            web.get("/favicon.ico", pages.favicon, name="favicon"),
            web.get("/robots.txt", pages.robots, name="robots"),
            web.get("/livez", health.livez, name="livez"),
            web.get("/readyz", health.readyz, name="readyz"),
        ]
    )
    app[ANY_HOST] |= {"/livez", "/readyz"}
    add_to_menu(app, "Home", "index")
    add_to_menu(app, "About", "about")
