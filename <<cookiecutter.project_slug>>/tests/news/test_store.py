import sys
import unicodedata
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

# % filter replace("package_name", cookiecutter.package_name)
from package_name.news.drafts import Draft, make_slug
from package_name.news.models import Item
from package_name.news.store import Cursor


# % endfilter
@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hello, World!", "hello-world"),
        ("  -- Ünï  cödé --", "ünï-cödé"),
        ("U\u0308ber", "über"),
        ("\uff26\uff35\uff2c\uff2c ﬁ ²", "full-fi-2"),
        ("東京からのお知らせ", "東京からのお知らせ"),
        ("हिन्दी में", "हिन्दी-में"),
        ("ΟΔΟΣ", "οδος"),
        ("İstanbul", "i\u0307stanbul"),
        ("\u05bc\u0130\u0acd\u1be6", "\u05bci\u1be6\u0acd\u0307"),
        ("🎉 !?", ""),
        ("x" * 300, "x" * 100),
        ("x" * 99 + " y", "x" * 99),
    ],
)
def test_slugs_of_titles(title: str, slug: str) -> None:
    assert make_slug(title) == slug
    if len(title) <= 200:
        assert Draft(title="x", body="x", slug=slug).slug == slug


def test_the_slug_of_a_slug_is_the_same() -> None:
    for character in filter(str.isalnum, map(chr, range(sys.maxunicode + 1))):
        if "CJK UNIFIED" in unicodedata.name(character, ""):  # most, and all alike
            continue
        slug = make_slug(f"a{character}\u0301b")
        assert make_slug(slug.replace("-", " ")) == slug
        assert unicodedata.is_normalized("NFC", slug)


def test_drafts_are_tidied_up() -> None:
    moment = datetime.fromisoformat("2024-01-01T01:00:00+01:00")
    given = Draft(
        title="\xa0A\u3000b\u200d ", slug=" x ", body="\n a\r\nb\rc\n \t", published_at=moment
    )
    assert (given.title, given.slug, given.body) == ("A b", "x", " a\nb\nc")
    assert given.published_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert given.published_at.tzinfo is UTC


def test_a_body_may_have_as_many_lines_as_characters() -> None:
    assert len(Draft(title="x", body="x\r\n" * 25_000).body) == 49_999


@pytest.mark.parametrize("text", ["x" + "\u0301" * 31, "\u0301\u0327" * 20_000])
def test_marks_do_not_pile_up(text: str) -> None:
    with pytest.raises(ValidationError, match="more than 30 marks"):
        Draft(title="x", body=text)


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=UTC),
    ],
)
def test_cursors_fit_into_urls(moment: datetime) -> None:
    cursor = Cursor.of(Item(published_at=moment, id=5))
    assert Cursor.parse(str(cursor)) == cursor == (moment, 5)
