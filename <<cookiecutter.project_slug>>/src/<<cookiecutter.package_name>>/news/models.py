"""What is kept of the news."""

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ..database import Base


class Item(Base):
    """A piece of news; a draft as long as it has no ``published_at``."""

    __tablename__ = "news"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    slug: Mapped[str] = mapped_column(String(100), unique=True)
    """What its URL ends with: letters and digits of any script, and hyphens."""
    body: Mapped[str] = mapped_column(Text)
    """Markdown (CommonMark)."""
    published_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    """Counts the changes, so that none overwrites another that it does not know of."""

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # SQLAlchemy's own way
    __table_args__ = (
        Index("ix_news_published_at_id", "published_at", "id"),
        {"sqlite_autoincrement": True},  # else the id of what was deleted last is given again
    )
