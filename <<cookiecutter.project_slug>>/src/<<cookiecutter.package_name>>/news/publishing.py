"""Functions that save and delete news items, and notify all open pages.

Handlers await them in aiojobs' ``shield``, so that they finish even if the client disconnects:
``await shield(request, publishing.save(get_context(request).app, draft))``.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from ..database import DATABASE
from ..live import BUS, EVERYBODY
from ..web import nesting
from . import store
from .drafts import Draft, make_slug
from .models import Item

ATTEMPTS: Final = 20
"""Maximum attempts to find a free slug. An attempt fails only if a concurrent one has succeeded, so
this many concurrent requests may have the same title."""


class _Shown(NamedTuple):
    """The public fields of an item."""

    slug: str
    title: str
    body: str
    published_at: Any


def _shown(item: Item | None) -> _Shown | None:
    if item is None or item.published_at is None:
        return None
    return _Shown(item.slug, item.title, item.body, item.published_at)


async def _get(session: AsyncSession, id_: int) -> Item:
    item = await store.get(session, id_)
    if item is None:
        raise LookupError(id_)
    return item


async def _tell(app: web.Application, before: _Shown | None, after: _Shown | None) -> None:
    last = after or before
    if last is None or before == after:
        return
    change = "published" if before is None else "changed" if after else "withdrawn"
    url = str(nesting.url_for(app, "news_item", slug=last.slug))
    was = str(nesting.url_for(app, "news_item", slug=before.slug)) if before else None
    message = {"type": "news", "change": change, "title": last.title, "url": url, "was": was}
    await app[BUS].publish(EVERYBODY, message)


def _accept(_item: Item) -> None:
    """Allow changes of every version of an item."""


async def save(
    app: web.Application,
    draft: Draft,
    id_: int | None = None,
    check: Callable[[Item], None] = _accept,
) -> Item:
    """Save a draft as a new item, or over the item ``id_``; ``app`` is the outermost application.

    ``check`` may raise an error to refuse a change of the current item. Raises LookupError if the
    item does not exist, store.SlugError and store.ChangedError.
    """
    for again in reversed(range(ATTEMPTS)):
        try:
            async with app[DATABASE].writing() as session:
                item = None if id_ is None else await _get(session, id_)
                if item is not None:
                    check(item)
                before = _shown(item)
                saved = await store.save(session, draft, item)
            break
        except store.SlugError:
            # A slug made from the title may have been free until a concurrent request took it.
            if not again or draft.slug or not make_slug(draft.title):
                raise
    await _tell(app, before, _shown(saved))
    return saved


async def delete(
    app: web.Application, id_: int, version: int, check: Callable[[Item], None] = _accept
) -> None:
    """Delete an item, unless ``check`` raises an error for the current item.

    Raises LookupError if the item does not exist, and store.ChangedError.
    """
    async with app[DATABASE].writing() as session:
        item = await _get(session, id_)
        check(item)
        await store.delete(session, item, version)
    await _tell(app, _shown(item), None)
