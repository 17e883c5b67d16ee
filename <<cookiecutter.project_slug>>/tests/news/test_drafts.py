import json
import sys
import unicodedata
from datetime import UTC, datetime

import pytest
from aiohttp import hdrs
from pydantic import ValidationError

# % filter replace("package_name", cookiecutter.package_name)
from package_name.news.drafts import Draft, make_slug

from ..helpers import Client
from .helpers import BIDI, JSON, MARKUP, SQL, TEMPLATE, WRITER, draft

# % endfilter
MEGABYTE = "x" * 1_000_000
MARKS = "x" + "\u0301\u0327" * 250_000
"""Combining marks in the wrong order, which Unicode would take minutes to sort."""
NOT_TEXT = [
    "\0",
    "a\0b",
    "a\x0bb",
    "\x1b[31mred",
    "a\x85b",
    "a\ufffeb",
    "a\uffff",
    "\ud800",
    "a\udfff",
]
NOT_STRINGS = [5, True, None, [], {}, ["x"], {"x": "y"}, 1e300]

INVALID: dict[str, list[object]] = {
    "title": [
        *("", " \t ", "\u200d\u200e", "a\nb", "a\u2028b", BIDI, "x" * 201, MEGABYTE, MARKS),
        "\u0958" * 101,  # NFC decomposes it
        *NOT_TEXT,
        *NOT_STRINGS,
    ],
    "slug": [
        *(SQL, MARKUP, TEMPLATE, BIDI, "../../etc/passwd", "a/b", "a?b", "%2e%2e", "Upper"),
        *("a--b", "-a", "a-", "a b", "a\nb", "x" * 101, MEGABYTE, MARKS, "\u200d", "\ufdfa" * 100),
        *NOT_TEXT,
        *NOT_STRINGS,
    ],
    "body": ["", " \n ", "\r\n", "\t", "x" * 50_001, MEGABYTE, MARKS, *NOT_TEXT, *NOT_STRINGS],
    "published_at": [
        *(0, 5, True, [], {}, 1e300, "", "yesterday", SQL, MARKUP, MEGABYTE, BIDI, "\ud800"),
        *("2024-02-30T00:00:00Z", "2024-01-01", "2024-01-01T00:00:00", "2024-01-01T00:00:00Z\0"),
        *("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"),
        *("0999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "-0001-01-01T00:00:00Z"),
        *("2024-01-01T00:00:00+99:99", "nan", "-inf", "9" * 400),
    ],
    "version": ["1", 1.5, True, [], {}, "", SQL, MARKUP, MEGABYTE, MARKS, BIDI, "\0", "\ud800"],
    "__class__": [*NOT_STRINGS, SQL, MARKUP, MEGABYTE, "\ud800"],
}


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
def test_slug_keeps_letters_and_digits_of_any_script(title: str, slug: str) -> None:
    assert make_slug(title) == slug
    if len(title) <= 200:
        assert Draft(title="x", body="x", slug=slug).slug == slug


def test_slug_is_made_of_the_first_400_characters() -> None:
    assert make_slug("! " * 199 + "ab" + "x" * 10_000) == "ab"
    assert len(make_slug("\ufdfa" * 10_000)) == 100


def test_slug_of_a_slug_is_the_same() -> None:
    for character in filter(str.isalnum, map(chr, range(sys.maxunicode + 1))):
        if "CJK UNIFIED" in unicodedata.name(character, ""):  # most characters, all alike
            continue
        slug = make_slug(f"a{character}\u0301b")
        assert make_slug(slug.replace("-", " ")) == slug
        assert unicodedata.is_normalized("NFC", slug)


def test_draft_normalises_spaces_newlines_and_time_zone() -> None:
    moment = datetime.fromisoformat("2024-01-01T01:00:00+01:00")
    given = Draft(
        title="\xa0A\u3000b\u200d ", slug=" x ", body="\n a\r\nb\rc\n \t", published_at=moment
    )
    assert (given.title, given.slug, given.body) == ("A b", "x", " a\nb\nc")
    assert given.published_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert given.published_at.tzinfo is UTC


def test_length_of_a_body_is_counted_after_newlines_are_normalised() -> None:
    assert len(Draft(title="x", body="x\r\n" * 25_000).body) == 49_999


@pytest.mark.parametrize(
    "text", ["x" + "\u0301" * 31, "\u0301\u0327" * 20_000, "\u0f73" * 16, "\u0f73" * 25_000]
)
def test_too_many_marks_on_one_letter_are_invalid(text: str) -> None:
    with pytest.raises(ValidationError, match="more than 30 marks"):
        Draft(title="x", body=text)


def as_json(value: object) -> bytes:
    """Return JSON in UTF-8, with escapes for lone surrogates only."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


async def status_of(client: Client, field: str, value: object) -> int:
    """Send a draft with the value, and return the status; check that the response says why."""
    body = as_json(draft() | {field: value})
    headers = WRITER | {hdrs.CONTENT_TYPE: JSON}
    async with client.post("/api/news", data=body, headers=headers) as response:
        problem = await response.json()
        assert response.content_type == "application/problem+json"
        if response.status == 400:
            assert problem["detail"].startswith("Invalid JSON: ")
        else:
            (error,) = problem["errors"]
            assert error["pointer"] == f"#/{field}"
            assert 5 < len(error["detail"]) < 200
        return response.status


@pytest.mark.parametrize("field", INVALID)
async def test_invalid_or_hostile_value_is_refused_with_a_reason(
    client: Client, field: str
) -> None:
    for value in INVALID[field]:
        surrogate = isinstance(value, str) and "\ud800" <= max(value, default="") <= "\udfff"
        status = await status_of(client, field, value)
        assert status == (400 if surrogate else 422), ascii(value)[:100]
    async with client.get("/api/news", headers=WRITER) as response:
        assert (await response.json())["items"] == []
