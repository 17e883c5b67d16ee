"""Database queries of the news."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self

from sqlalchemy import select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from .drafts import LONGEST_SLUG, Draft, make_slug
from .models import Item

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST: Final = 2**31 - 1
"""Largest id: PostgreSQL's integers have 32 bits."""


class SlugError(ValueError):
    """Raised if the slug is taken, or cannot be made: the title has neither letters nor digits."""


class ChangedError(Exception):
    """Raised if somebody else has changed or deleted the item in the meantime."""


class Cursor(NamedTuple):
    """The position in the list at which a page ends and the next one begins."""

    published_at: datetime
    id: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor for a text made by ``str()``. Raises ValueError."""
        microseconds, _, id_ = text.rpartition("-")
        try:
            cursor = cls(_EPOCH + timedelta(microseconds=int(microseconds)), int(id_))
        except OverflowError as error:
            raise ValueError from error
        if cursor.id > _LARGEST:
            raise ValueError
        return cursor

    @classmethod
    def of(cls, item: Item) -> Self:
        """Return the cursor of a page that ends with the item."""
        return cls(item.published_at or _EPOCH, item.id)

    def __str__(self) -> str:
        """Return the cursor as text for a URL."""
        return f"{(self.published_at - _EPOCH) // timedelta(microseconds=1)}-{self.id}"


async def published(session: AsyncSession, size: int, before: Cursor | None = None) -> list[Item]:
    """Return up to ``size`` published items, the latest first."""
    query = select(Item).where(Item.published_at.is_not(None))
    if before:
        query = query.where(tuple_(Item.published_at, Item.id) < before)
    query = query.order_by(Item.published_at.desc(), Item.id.desc()).limit(size)
    return list(await session.scalars(query))


async def find(session: AsyncSession, slug: str) -> Item | None:
    """Return the published item with the slug, or None."""
    query = select(Item).where(Item.slug == slug, Item.published_at.is_not(None))
    return await session.scalar(query)


async def everything(session: AsyncSession, size: int, before: int | None = None) -> list[Item]:
    """Return up to ``size`` items, including drafts, the newest first; ``before`` is an id."""
    query = select(Item).order_by(Item.id.desc()).limit(size)
    if before is not None:
        query = query.where(Item.id < min(before, _LARGEST))
    return list(await session.scalars(query))


async def get(session: AsyncSession, id_: int) -> Item | None:
    """Return the item or draft with the id, or None."""
    return await session.get(Item, id_) if id_ <= _LARGEST else None


async def _free_slug(session: AsyncSession, title: str) -> str:
    """Return a slug for a title that no other item uses. Raises SlugError."""
    slug = make_slug(title)
    if not slug:
        raise SlugError("give one, as the title has neither letters nor digits")
    stem = slug[: LONGEST_SLUG - 10].strip("-")
    numbered = Item.slug.startswith(f"{stem}-", autoescape=True)
    taken = set(await session.scalars(select(Item.slug).where((Item.slug == slug) | numbered)))
    free, number = slug, 1
    while free in taken:
        number += 1
        free = f"{stem}-{number}"
    return free


async def save(session: AsyncSession, draft: Draft, item: Item | None = None) -> Item:
    """Save a draft over an item, or as a new one. Raises SlugError and ChangedError."""
    if item is None:
        item = Item()
        session.add(item)
    elif draft.version != item.version:
        raise ChangedError
    with session.no_autoflush:
        item.slug = draft.slug or item.slug or await _free_slug(session, draft.title)
    item.title = draft.title
    item.body = draft.body
    item.published_at = draft.published_at
    item.updated_at = datetime.now(UTC)
    try:
        await session.flush()
    except IntegrityError as error:
        if "slug" not in str(error.orig):
            raise
        raise SlugError("is taken") from None
    except StaleDataError:
        raise ChangedError from None
    return item


async def delete(session: AsyncSession, item: Item, version: int) -> None:
    """Delete an item. Raises ChangedError."""
    if version != item.version:
        raise ChangedError
    await session.delete(item)
    try:
        await session.flush()
    except StaleDataError:
        raise ChangedError from None
