"""What somebody sends who means harm: refused with a reason, or stored and shown harmlessly."""

import json

import pytest
from aiohttp import hdrs
from yarl import URL

from ..helpers import Client
from .helpers import (
    HTML,
    JSON,
    NS,
    WRITER,
    assert_harmless,
    change,
    create,
    draft,
    entries,
    read,
)

SQL = "x'; DROP TABLE news; --"
MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(1)>]]> &lt;&amp;'
TEMPLATE = "{{ 7 * 7 }}{% include 'base.html' %}"
MEGABYTE = "x" * 1_000_000
PILE = "x" + "\u0301\u0327" * 250_000
"""Marks in the wrong order, which would take minutes to sort."""
OVERRIDE = "moc.elpmaxe \u202e.com"
NO_TEXT = [
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
NO_STRINGS = [5, True, None, [], {}, ["x"], {"x": "y"}, 1e300]

REFUSED: dict[str, list[object]] = {
    "title": [
        *("", " \t ", "\u200d\u200e", "a\nb", "a\u2028b", OVERRIDE, "x" * 201, MEGABYTE, PILE),
        "\u0958" * 101,  # which NFC takes apart
        *NO_TEXT,
        *NO_STRINGS,
    ],
    "slug": [
        *(SQL, MARKUP, TEMPLATE, OVERRIDE, "../../etc/passwd", "a/b", "a?b", "%2e%2e", "Upper"),
        *("a--b", "-a", "a-", "a b", "a\nb", "x" * 101, MEGABYTE, PILE, "\u200d", "\ufdfa" * 100),
        *NO_TEXT,
        *NO_STRINGS,
    ],
    "body": ["", " \n ", "\r\n", "\t", "x" * 50_001, MEGABYTE, PILE, *NO_TEXT, *NO_STRINGS],
    "published_at": [
        *(0, 5, True, [], {}, 1e300, "", "yesterday", SQL, MARKUP, MEGABYTE, OVERRIDE, "\ud800"),
        *("2024-02-30T00:00:00Z", "2024-01-01", "2024-01-01T00:00:00", "2024-01-01T00:00:00Z\0"),
        *("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"),
        *("0999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "-0001-01-01T00:00:00Z"),
        *("2024-01-01T00:00:00+99:99", "nan", "-inf", "9" * 400),
    ],
    "version": ["1", 1.5, True, [], {}, "", SQL, MARKUP, MEGABYTE, PILE, OVERRIDE, "\0", "\ud800"],
    "__class__": [*NO_STRINGS, SQL, MARKUP, MEGABYTE, "\ud800"],
}

SHOWN = {
    "title": [
        *(SQL, MARKUP, TEMPLATE, "x" * 200, "x\u0301" * 100, "🏳️‍🌈 \U0001fae8", "مرحبا", "新 機能"),
    ],
    "slug": ["drop-table-news", "x" * 100, "مرحبا", "script-alert-1", "日本", "\u0915\u093f"],
    "body": [
        *(SQL, MARKUP, TEMPLATE, OVERRIDE, "x" * 50_000, "<!-- -->", "]]>", "<![CDATA[x]]>"),
        'a &#12; [x](y "&#12;") &#0; &#xfffe; &#xd800;',
        "[x](javascript:alert(1)) [x](JaVaScRiPt:alert(1)) [x](&#106;avascript:alert(1))",
        "[x](java\tscript:alert(1)) [x](<java\tscript:alert(1)>) [x](javascript&colon;alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=) [x](vbscript:x) [x](file:///etc/passwd)",
        "![x](javascript:alert(1)) ![x](data:image/svg+xml;base64,PHN2Zz4=)",
        '![x](x" onerror="alert(1)) ![x" onerror="alert(1)](x)',
        '<javascript:alert(1)> <data:text/html,x> <https://example.com/"onclick="alert(1)>',
        "[x]: javascript:alert(1)\n\n[x] [y]\n\n[y]: data:text/html,<script>alert(1)</script>",
        '[x](https://example.com "\\" onmouseover=\\"alert(1)")',
        "<img src=x onerror=alert(1)>\n\n<svg/onload=alert(1)>\n\n<iframe src=javascript:alert(1)>",
        "<style>*{display:none}</style><base href=//evil.example><form action=//evil.example>",
        '```x" onclick="alert(1)\n<script>alert(1)</script>\n```',
        "`<script>alert(1)</script>`\n\n    <script>alert(1)</script>",
        "# <script>alert(1)</script>\n\n> <script>alert(1)</script>\n\n- <script>alert(1)</script>",
    ],
    "published_at": [
        *(
            "1000-01-01T00:00:00+14:00",
            "1969-12-31T23:59:59.999999-12:00",
            "2024-02-29T00:00:00+14:00",
        ),
    ],
}


def as_json(value: object) -> bytes:
    """Return UTF-8, and escapes only where there is none."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


async def status_of(client: Client, field: str, value: object) -> int:
    """Send a draft with the value, and return the status; the reason has to be clear."""
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


@pytest.mark.parametrize("field", REFUSED)
async def test_it_is_refused_with_a_reason(client: Client, field: str) -> None:
    for value in REFUSED[field]:
        surrogate = isinstance(value, str) and "\ud800" <= max(value, default="") <= "\udfff"
        status = await status_of(client, field, value)
        assert status == (400 if surrogate else 422), ascii(value)[:100]
    async with client.get("/api/news", headers=WRITER) as response:
        assert (await response.json())["items"] == []


@pytest.mark.parametrize("field", SHOWN)
async def test_it_is_shown_harmlessly(client: Client, field: str) -> None:
    for value in SHOWN[field]:
        item = await create(client, **{"slug": "hostile", field: value})
        path = URL(item["url"]).raw_path
        assert item[field] == value or field == "published_at"
        for each in (path, "/news"):
            assert_harmless(await read(client, each, HTML))
        async with client.get(path, headers={hdrs.ACCEPT: JSON}) as response:
            assert await response.json() == item
        for each in ("/news.atom", "/news"):
            (entry,) = await entries(client, each)
            assert entry.findtext(f"{NS}title") == item["title"]
            content = entry.findtext(f"{NS}content") or ""
            assert "<script" not in content
            assert_harmless(content)
        async with client.delete(f"/api/news/{item['id']}?version=1", headers=WRITER) as response:
            assert response.status == 204


async def test_markup_in_a_title_is_text(client: Client) -> None:
    await create(client, MARKUP, slug="markup")
    for path in ("/news", "/news/markup"):
        page = await read(client, path)
        assert "&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "<script>alert" not in page


async def test_only_the_version_that_is_there_is_changed_or_deleted(client: Client) -> None:
    item = await create(client)
    path = f"/api/news/{item['id']}"
    for version in (0, -1, 2, 2**31, 2**63, 2**64, 10**4000):
        assert await change(client, item, title="Changed", version=version) == 409
        async with client.delete(f"{path}?version={version}", headers=WRITER) as response:
            assert response.status == 409
    for text in ("", "x", "1.0", "true", SQL, MARKUP, OVERRIDE, "\0", "9" * 5000, "[]", "1,1"):
        async with client.delete(path, params={"version": text}, headers=WRITER) as response:
            assert response.status == 422, text
    async with client.get(path) as response:
        assert await response.json() == item
