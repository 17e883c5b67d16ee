"""What the public sees of the news: the list and each item, as a page, as JSON and as Atom."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from aiohttp import web

from ..database import DATABASE
from ..web.templating import render, url
from . import lists, store
from .drafts import make_slug
from .markdown import summary, to_html
from .models import Item

ID: Final = "https://<< cookiecutter.domain_name | lower >>/api/news"
"""What the ids in feeds begin with. Leave it, whatever the site is called: readers go by them."""
HTML: Final[web.AppKey[Callable[[str], str]]] = web.AppKey("HTML")
"""Makes HTML of Markdown, and remembers that of some texts, as SUMMARY does."""
SUMMARY: Final[web.AppKey[Callable[[str], str]]] = web.AppKey("SUMMARY")
_CACHED: Final = 128
"""Texts that are remembered: those of the latest pages."""
_ATOM: Final = "application/atom+xml"
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


def setup(app: web.Application) -> None:
    """Let the application remember what it has rendered."""
    html: Callable[[str], str] = lru_cache(_CACHED)(to_html)
    begins: Callable[[str], str] = lru_cache(_CACHED)(summary)
    app[HTML] = html
    app[SUMMARY] = begins


async def list_page(request: web.Request) -> web.Response:
    """Answer a page of the list."""
    page = await lists.published(request)
    summaries = await asyncio.to_thread(
        lambda: [request.app[SUMMARY](item.body) for item in page.items]
    )
    entries = list(zip(page.items, summaries, strict=True))
    return render(request, "news.html", entries=entries, older=page.older)


async def list_json(request: web.Request) -> web.Response:
    """Answer a page of the list, for programs."""
    return lists.json_page(request, await lists.published(request))


async def list_atom(request: web.Request) -> web.Response:
    """Answer a page of the list, for feed readers (RFC 4287, RFC 5005)."""
    page = await lists.published(request)
    contents = await asyncio.to_thread(
        lambda: [request.app[HTML](item.body) for item in page.items]
    )
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
    """Return the item that the URL names.

    Raises web.HTTPPermanentRedirect when its slug is written otherwise, web.HTTPNotFound.
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
    """Answer an item."""
    item = await _find(request)
    content = await asyncio.to_thread(request.app[HTML], item.body)
    return render(request, "news_item.html", item=item, content=content)


async def item_json(request: web.Request) -> web.Response:
    """Answer an item, for programs."""
    return web.json_response(lists.as_data(request, await _find(request)))


async def item_atom(request: web.Request) -> web.Response:
    """Answer an item, for feed readers: an entry without its feed."""
    item = await _find(request)
    content = await asyncio.to_thread(request.app[HTML], item.body)
    site = lists.site(request)
    response = render(request, "news_entry.atom", id=ID, site=site, item=item, content=content)
    response.content_type = _ATOM
    return response
