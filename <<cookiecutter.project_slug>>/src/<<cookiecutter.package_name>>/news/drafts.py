"""Validation of news items, shared by the form and the API."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict

from ..normalization import normalize

LONGEST_TITLE: Final = 200
LONGEST_SLUG: Final = 100
LONGEST_BODY: Final = 50_000
"""In characters."""

NO_TEXT: Final = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0, and so Atom, does not allow (production Char) or discourages."""
JOINERS: Final = "\u200c\u200d\u200e\u200f"
"""Invisible characters that emoji and right-to-left scripts need."""
_FIRST_YEAR: Final = 1000
"""Not 1: some time zones do not have the year 1, and asyncpg treats it as -infinity."""
_SPACES: Final = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_UNSEEN: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Categories of characters not allowed in a line. Not Cn: emoji may be newer than Python."""
_MARKS: Final = 30
"""Maximum number of marks on one letter (Unicode's Stream-Safe Text Format, UAX #15)."""


def _normal(text: str, longest: int) -> str:
    """Return the text in NFC. Raises ValueError if it is too long or has invalid characters."""
    if len(text) > longest:
        raise ValueError(f"has more than {longest:,} characters")
    text = normalize("NFC", text)
    if len(text) > longest:  # NFC decomposes some letters
        raise ValueError(f"has more than {longest:,} characters")
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MARKS:
            raise ValueError(f"has more than {_MARKS} marks on one letter")
    if found := NO_TEXT.search(text):
        raise ValueError(f"holds U+{ord(found[0]):04X}, which is no text")
    return text


def _filled(text: str) -> str:
    """Return the text in its final form. Raises ValueError if it is empty."""
    if not text:
        raise ValueError("is empty")
    return text


def _text(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Leading spaces may mark a code block.
    return _filled(_normal(text, LONGEST_BODY).rstrip().lstrip("\n"))


def _line(text: str) -> str:
    text = _SPACES.sub(" ", _normal(text, LONGEST_TITLE))
    for character in text:
        if unicodedata.category(character) in _UNSEEN and character not in JOINERS:
            raise ValueError(f"holds U+{ord(character):04X}, which cannot be seen")
    return _filled(text.strip(f" {JOINERS}"))


def make_slug(title: str) -> str:
    """Return the letters and digits of a title, as words joined with hyphens; empty if none."""
    # A letter may have several marks, but a longer title is not worth the work.
    folded = normalize("NFKC", title[: 4 * LONGEST_SLUG]).lower()
    folded = normalize("NFKC", folded)  # lower() may have denormalized it
    # Keep marks too: without them, words of Indic scripts would be split.
    kept = (each if unicodedata.category(each)[0] in "LMN" else " " for each in folded)
    return "-".join("".join(kept).split())[:LONGEST_SLUG].strip("-")


def _slug(text: str) -> str:
    slug = _normal(text.strip(), LONGEST_SLUG)
    if slug != make_slug(slug.replace("-", " ")):
        raise ValueError("may have lower-case letters, digits, and single hyphens between them")
    return slug


def _past(moment: datetime) -> datetime:
    if moment > datetime.now(UTC):
        raise ValueError("lies in the future")
    if moment.year < _FIRST_YEAR:
        raise ValueError(f"lies before the year {_FIRST_YEAR}")
    return moment.astimezone(UTC).replace(microsecond=0)  # the precision of forms


class Draft(BaseModel):
    """The validated fields of a news item. Raises pydantic.ValidationError."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, AfterValidator(_line)]
    slug: Annotated[str, AfterValidator(_slug)] = ""
    """Empty: derived from the title."""
    body: Annotated[str, AfterValidator(_text)]
    published_at: Annotated[AwareDatetime, AfterValidator(_past)] | None = None
    """None: not published."""
    version: int | None = None
    """The version that the draft is based on; None for a new item."""
