"""Public handlers of the news: the list and each item, as HTML, as JSON and as Atom."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from ..database import DATABASE
from ..web.templating import render, url
from . import lists, store
from .drafts import make_slug
from .markdown import summary, to_html
from .models import Item

ID: Final = "https://<< cookiecutter.domain_name | lower >>/api/news"
"""Prefix of the ids in feeds. Do not change it with the domain: feed readers rely on the ids."""
_CACHED: Final = 128
"""Maximum number of texts whose rendering is cached: enough for the latest pages."""


class Rendered:
    """A cache of rendered texts: each is rendered once, in a thread, for all requests."""

    def __init__(self, render: Callable[[str], str]) -> None:
        """Create a cache for a function that renders a text; it may be slow, but must not raise."""
        self._render = render
        self._known: dict[str, asyncio.Future[str]] = {}

    async def __call__(self, text: str) -> str:
        """Return the rendered text."""
        if text not in self._known:
            if len(self._known) >= _CACHED:
                del self._known[next(iter(self._known))]
            self._known[text] = asyncio.ensure_future(asyncio.to_thread(self._render, text))
        return await asyncio.shield(self._known[text])  # other requests may still wait


HTML: Final = web.AppKey("HTML", Rendered)
SUMMARY: Final = web.AppKey("SUMMARY", Rendered)
_ATOM: Final = "application/atom+xml"
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


def setup(app: web.Application) -> None:
    """Add the caches of rendered texts to the application."""
    app[HTML] = Rendered(to_html)
    app[SUMMARY] = Rendered(summary)


async def list_page(request: web.Request) -> web.Response:
    """Render a page of the list."""
    page = await lists.published(request)
    summaries = [await request.app[SUMMARY](item.body) for item in page.items]
    entries = list(zip(page.items, summaries, strict=True))
    return render(request, "news.html", entries=entries, older=page.older)


async def list_json(request: web.Request) -> web.Response:
    """Return a page of the list as JSON."""
    return lists.json_page(request, await lists.published(request))


async def list_atom(request: web.Request) -> web.Response:
    """Render a page of the list as an Atom feed (RFC 4287, RFC 5005)."""
    page = await lists.published(request)
    contents = [await request.app[HTML](item.body) for item in page.items]
    response = render(
        request,
        "news.atom",
        id=ID,
        site=lists.site(request),
        entries=list(zip(page.items, contents, strict=True)),
        updated=max((item.updated_at for item in page.items), default=_NEVER),
        here=request.query.get("before"),
        older=page.older,
    )
    response.content_type = _ATOM
    return response


async def _find(request: web.Request) -> Item:
    """Return the item in the URL.

    Raises web.HTTPPermanentRedirect if the slug is not in its normal form, and web.HTTPNotFound.
    """
    asked = request.match_info["slug"]
    slug = make_slug(asked.replace("-", " "))
    if slug and slug != asked:
        raise web.HTTPPermanentRedirect(url("news_item", slug=slug))
    async with request.config_dict[DATABASE].reading() as session:
        item = await store.find(session, slug)
    if item is None:
        raise web.HTTPNotFound
    return item


async def item_page(request: web.Request) -> web.Response:
    """Render an item."""
    item = await _find(request)
    content = await request.app[HTML](item.body)
    return render(request, "news_item.html", item=item, content=content)


async def item_json(request: web.Request) -> web.Response:
    """Return an item as JSON."""
    return web.json_response(lists.as_data(request, await _find(request)))


async def item_atom(request: web.Request) -> web.Response:
    """Render an item as an Atom entry, without a feed."""
    item = await _find(request)
    content = await request.app[HTML](item.body)
    site = lists.site(request)
    response = render(request, "news_entry.atom", id=ID, site=site, item=item, content=content)
    response.content_type = _ATOM
    return response
