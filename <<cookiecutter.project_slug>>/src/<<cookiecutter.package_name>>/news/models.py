"""The database model of the news."""

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ..database import Base


class Item(Base):
    """A news item, which is a draft until it has a ``published_at``."""

    __tablename__ = "news"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    slug: Mapped[str] = mapped_column(String(100), unique=True)
    """Last part of its URL: letters and digits of any script, and hyphens."""
    body: Mapped[str] = mapped_column(Text)
    """Markdown (CommonMark)."""
    published_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    """Version number, incremented with each change to detect conflicting changes."""

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # as SQLAlchemy requires
    __table_args__ = (
        Index("ix_news_published_at_id", "published_at", "id"),
        {"sqlite_autoincrement": True},  # otherwise SQLite reuses the id of the last deleted item
    )
