"""News: pages, a feed, an API, and an editor in the admin.

The README describes how to remove the feature.
"""

from typing import Final

from aiohttp import hdrs, web

from ..web import cors, nesting, templating
from ..web.conditional import conditional
from ..web.negotiation import negotiated
from . import api, editor, pages

EXPOSED: Final = (hdrs.ETAG, hdrs.LINK, hdrs.LOCATION)
"""Response headers that pages of other sites may read."""


def setup(app: web.Application) -> None:
    """Add the news to the application."""
    templating.extend(app, __package__, app)
    templating.add_to_menu(app, "News", "news")
    nesting.offer(app, "admin", editor.setup)
    pages.setup(app)
    latest = {
        "text/html": pages.list_page,
        "application/json": pages.list_json,
        "application/atom+xml": pages.list_atom,
    }
    item = {
        "text/html": pages.item_page,
        "application/json": pages.item_json,
        "application/atom+xml": pages.item_atom,
    }
    one = "/api/news/{id:[0-9]{1,18}}"
    routes = app.add_routes(
        [
            web.get("/news", conditional(negotiated(latest)), name="news"),
            web.get("/news/{slug}", conditional(negotiated(item)), name="news_item"),
            web.get("/news.atom", conditional(pages.list_atom), name="news_feed"),
            web.get("/api/news", conditional(api.list_all), name="news_api"),
            web.post("/api/news", api.create, name="news_api"),
            web.get(one, conditional(api.get), name="news_api_item"),
            web.put(one, api.replace, name="news_api_item"),
            web.delete(one, api.delete, name="news_api_item"),
        ]
    )
    for route in routes:
        cors.allow(app, route, EXPOSED)
