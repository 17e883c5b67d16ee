"""Pagination of the news, and news items as JSON data."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from aiohttp import hdrs, web

from ..database import DATABASE
from ..web.templating import url
from . import store
from .models import Item

PAGE_SIZE: Final = 20
T = TypeVar("T")


class Page(NamedTuple):
    """A page of items, and the cursor of the next page."""

    items: Sequence[Item]
    older: str | None
    """Value of ``?before=`` for the next page; None on the last page."""


def _id(text: str) -> int:
    """Parse an id. Raises ValueError."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def _before(request: web.Request, parse: Callable[[str], T]) -> T | None:
    """Return the cursor of the page, or None for the first page. Raises web.HTTPBadRequest."""
    text = request.query.get("before")
    try:
        return None if text is None else parse(text)
    except ValueError:
        raise web.HTTPBadRequest(text="There is no such page.") from None


def _page(items: list[Item], cursor: Callable[[Item], object]) -> Page:
    """Return a page of the items, which include one item of the next page if there is one."""
    shown = items[:PAGE_SIZE]
    return Page(shown, str(cursor(shown[-1])) if len(items) > PAGE_SIZE else None)


async def published(request: web.Request) -> Page:
    """Return the requested page of the published items, the latest first."""
    before = _before(request, store.Cursor.parse)
    async with request.config_dict[DATABASE].reading() as session:
        items = await store.published(session, PAGE_SIZE + 1, before)
    return _page(items, store.Cursor.of)


async def everything(request: web.Request) -> Page:
    """Return the requested page of all items, including drafts, the last created first."""
    before = _before(request, _id)
    async with request.config_dict[DATABASE].reading() as session:
        items = await store.everything(session, PAGE_SIZE + 1, before)
    return _page(items, lambda item: item.id)


def site(request: web.Request) -> str:
    """Return the scheme and host of this site's URLs, as the client sees them."""
    return f"{request.scheme}://{request.host}"


def as_data(request: web.Request, item: Item) -> dict[str, Any]:
    """Return an item as a dictionary for JSON."""
    return {
        "id": item.id,
        "version": item.version,
        "title": item.title,
        "slug": item.slug,
        "url": site(request) + url("news_item", slug=item.slug),
        "body": item.body,
        "published_at": item.published_at and item.published_at.isoformat(),
        "updated_at": item.updated_at.isoformat(),
    }


def json_page(request: web.Request, page: Page) -> web.Response:
    """Return a page as JSON, with the URL of the next page in the body and in Link (RFC 8288)."""
    older = page.older and f"{site(request)}{request.path}?before={page.older}"
    return web.json_response(
        {"items": [as_data(request, item) for item in page.items], "next": older},
        headers={hdrs.LINK: f'<{older}>; rel="next"'} if older else None,
    )
