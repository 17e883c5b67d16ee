"""What may be said of a piece of news: checked alike, whether it comes from a form or as JSON."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

LONGEST_BODY: Final = 50_000
"""Characters."""

_NO_TEXT: Final = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0, and so Atom, cannot hold (production Char), and what it discourages."""
JOINERS: Final = "\u200c\u200d\u200e\u200f"
"""Invisible characters that emoji and right-to-left scripts need."""


def _text(text: str) -> str:
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    if found := _NO_TEXT.search(text):
        raise ValueError(f"holds U+{ord(found[0]):04X}, which is no text")
    return text.strip(" \n")


def _line(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    for character in text:
        if unicodedata.category(character)[0] in "CZ" and character not in f" {JOINERS}":
            raise ValueError(f"holds U+{ord(character):04X}, which cannot be seen")
    return text.strip(f" {JOINERS}")


def make_slug(title: str) -> str:
    """Return the letters and digits of a title, in words; empty if it has none."""
    folded = unicodedata.normalize("NFKC", title).lower()
    # Marks too: without them, words of Indic scripts fall apart.
    kept = (each if unicodedata.category(each)[0] in "LMN" else " " for each in folded)
    return "-".join("".join(kept).split())[:100].strip("-")


def _slug(text: str) -> str:
    slug = unicodedata.normalize("NFC", text.strip())
    if slug != make_slug(slug.replace("-", " ")):
        raise ValueError("has lower-case letters and digits of any script, and single hyphens")
    return slug


def _past(moment: datetime) -> datetime:
    if moment > datetime.now(UTC):
        raise ValueError("lies in the future")
    return moment.astimezone(UTC)


class Draft(BaseModel):
    """What somebody wants a piece of news to say. Raises pydantic.ValidationError."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, AfterValidator(_line), Field(min_length=1, max_length=200)]
    slug: Annotated[str, AfterValidator(_slug), Field(max_length=100)] = ""
    """Empty: made from the title."""
    body: Annotated[str, AfterValidator(_text), Field(min_length=1, max_length=LONGEST_BODY)]
    published_at: Annotated[AwareDatetime, AfterValidator(_past)] | None = None
    """None: not yet."""
    version: int | None = None
    """The version that was changed; None for what is new."""
