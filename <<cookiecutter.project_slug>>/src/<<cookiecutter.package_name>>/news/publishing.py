"""Writing the news, and telling everybody who has the site open.

Handlers await these in aiojobs' ``shield``, as what was begun is finished though the client leaves:
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
"""To find a slug that is free. Who fails, fails to another who has succeeded: so many may come at
the same time with the same title."""


class _Shown(NamedTuple):
    """What the public sees of an item."""

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
    """Let every version of an item be changed."""


async def save(
    app: web.Application,
    draft: Draft,
    id_: int | None = None,
    check: Callable[[Item], None] = _accept,
) -> Item:
    """Write a draft over an item, or as a new one; ``app`` is the outermost application.

    ``check`` may refuse to change the item as it is. Raises LookupError when there is no such item,
    store.SlugError, store.ChangedError.
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
            # What was made of the title may have been free until somebody else came first.
            if not again or draft.slug or not make_slug(draft.title):
                raise
    await _tell(app, before, _shown(saved))
    return saved


async def delete(
    app: web.Application, id_: int, version: int, check: Callable[[Item], None] = _accept
) -> None:
    """Delete an item, unless ``check`` refuses it as it is.

    Raises LookupError when there is no such item, store.ChangedError.
    """
    async with app[DATABASE].writing() as session:
        item = await _get(session, id_)
        check(item)
        await store.delete(session, item, version)
    await _tell(app, _shown(item), None)
