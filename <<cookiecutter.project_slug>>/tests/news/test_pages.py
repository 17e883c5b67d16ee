import asyncio
import re
from threading import Event
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from aiohttp import hdrs
from pytest_aiohttp import AiohttpClient
from yarl import URL

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.news import pages

from ..helpers import TIMEOUT, Client, until
from .helpers import (
    ATOM,
    BIDI,
    FORMS,
    HTML,
    JSON,
    MARKUP,
    NS,
    SQL,
    TEMPLATE,
    WRITER,
    assert_harmless,
    change,
    create,
    entries,
    read,
)

# % endfilter
DECOMPOSED = "/news/caf" + quote("e\u0301")
HOSTILE = {
    "title": [
        *(SQL, MARKUP, TEMPLATE, "x" * 200, "x\u0301" * 100, "🏳️‍🌈 \U0001fae8", "مرحبا", "新 機能"),
    ],
    "slug": ["drop-table-news", "x" * 100, "مرحبا", "script-alert-1", "日本", "\u0915\u093f"],
    "body": [
        *(SQL, MARKUP, TEMPLATE, BIDI, "x" * 50_000, "<!-- -->", "]]>", "<![CDATA[x]]>"),
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


async def test_empty_list_in_all_formats(client: Client) -> None:
    assert "There are no news yet." in await read(client, "/news")
    async with client.get("/news", headers={hdrs.ACCEPT: JSON}) as response:
        assert await response.json() == {"items": [], "next": None}
    assert await entries(client) == []
    feed = ElementTree.fromstring(await read(client, "/news.atom", ATOM))
    assert feed.findtext(f"{NS}updated") == "1970-01-01T00:00:00+00:00"


async def test_pages_are_in_the_menu_and_link_the_feed(client: Client) -> None:
    assert '<a href="/news">News</a>' in await read(client, "/")
    await create(client)
    for path in ("/news", "/news/hello"):
        page = await read(client, path)
        assert '<a href="/news" aria-current="page">News</a>' in page
        (feed,) = re.findall(r'<link rel="alternate" type="application/atom\+xml"[^>]*>', page)
        assert 'href="/news.atom"' in feed


async def test_item_is_sent_in_the_format_that_the_client_accepts(client: Client) -> None:
    item = await create(client, "Ünïcode & <b>more</b>", body="# One\n\nSome *text* & [a](/b).")
    path = URL(item["url"]).raw_path
    assert path == "/news/" + quote("ünïcode-b-more-b")

    page = await read(client, path)
    assert "<title>Ünïcode &amp; &lt;b&gt;more&lt;/b&gt; · " in page
    assert ">Ünïcode &amp; &lt;b&gt;more&lt;/b&gt;</h1>" in page
    assert "<h2>One</h2>\n<p>Some <em>text</em> &amp; " in page
    assert '<time datetime="2024-02-29T12:00:00+00:00">29 February 2024</time>' in page

    async with client.get(path, headers={hdrs.ACCEPT: JSON}) as response:
        assert await response.json() == item

    entry = ElementTree.fromstring(await read(client, path, ATOM))
    assert entry.tag == f"{NS}entry"
    assert entry.findtext(f"{NS}title") == item["title"]
    assert entry.findtext(f"{NS}published") == item["published_at"]
    assert entry.findtext(f"{NS}updated") == item["updated_at"]
    assert (entry.findtext(f"{NS}id") or "").endswith(f"/api/news/{item['id']}")
    content = entry.find(f"{NS}content")
    assert content is not None
    assert content.get("type") == "html"
    base = content.get("{http://www.w3.org/XML/1998/namespace}base")
    assert base == str(client.make_url("/"))
    assert "<p>Some <em>text</em> &amp; <a href=" in (content.text or "")
    link = entry.find(f"{NS}link")
    assert link is not None
    assert link.get("href") == item["url"]

    async with client.get(path, headers={hdrs.ACCEPT: "image/png"}) as response:
        assert response.status == 406


async def test_feed_is_atom_whatever_the_client_accepts(client: Client) -> None:
    await create(client)
    for accept in ("*/*", "text/html"):
        async with client.get("/news.atom", headers={hdrs.ACCEPT: accept}) as response:
            assert response.content_type == ATOM
            assert response.charset == "utf-8"


@pytest.mark.parametrize(
    "path",
    [
        DECOMPOSED,
        "/news/CAF" + quote("É"),
        "/news/" + quote("café-"),
        "/news/" + quote("café!"),
    ],
)
async def test_other_spelling_of_a_slug_is_redirected(client: Client, path: str) -> None:
    await create(client, "Café")
    url = URL(path, encoded=True)
    async with client.get(url, allow_redirects=False) as response:
        assert response.status == 308
        assert response.headers[hdrs.LOCATION] == "/news/" + quote("café")
    async with client.get(url) as response:
        assert response.status == 200


@pytest.mark.parametrize("accept", FORMS)
async def test_unknown_or_unpublished_slug_is_404(client: Client, accept: str) -> None:
    await create(client, "Hidden", published_at=None)
    for slug in ("-", "%00", "%FF", "%F0%9F%8E%89", "x%00y", "%ED%A0%80", "a%2Fb", "hidden"):
        url = URL(f"/news/{slug}", encoded=True)
        async with client.get(url, headers={hdrs.ACCEPT: accept}) as response:
            assert response.status == 404, slug


async def test_urls_in_the_feed_have_the_forwarded_scheme_and_host(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    monkeypatch.setenv("ALLOWED_HOSTS", "localhost, 127.0.0.1, news.example")
    client = await aiohttp_client(create_app())
    await create(client)
    proxy = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "news.example"}
    async with client.get("/news.atom", headers=proxy) as response:
        (entry,) = ElementTree.fromstring(await response.text()).iter(f"{NS}entry")
    link = entry.find(f"{NS}link")
    assert link is not None
    assert link.get("href") == "https://news.example/news/hello"


async def test_id_in_the_feed_does_not_change_with_the_slug(client: Client) -> None:
    item = await create(client)
    (before,) = await entries(client)
    assert await change(client, item, title="Other", slug="other") == 200
    (after,) = await entries(client)
    assert after.findtext(f"{NS}title") == "Other"
    assert before.findtext(f"{NS}id") == after.findtext(f"{NS}id")


async def test_text_is_rendered_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Event()
    begun: list[str] = []

    def render(text: str) -> str:
        begun.append(text)
        assert opened.wait(TIMEOUT)
        return text.upper()

    monkeypatch.setattr(pages, "_CACHED", 2)
    rendered = pages.Rendered(render)
    cancelled = asyncio.create_task(rendered("a"))
    others = [asyncio.create_task(rendered(text)) for text in "aabb"]
    await asyncio.sleep(0)
    cancelled.cancel()
    opened.set()
    assert await asyncio.gather(*others) == [*"AABB"]
    assert sorted(begun) == ["a", "b"]
    assert [await rendered(text) for text in "cba"] == [*"CBA"]  # the cache holds two of the three
    assert sorted(begun) == ["a", "a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "path", "accept"),
    [
        ("summary", "/news", HTML),
        ("to_html", "/news.atom", ATOM),
        ("to_html", "/news/hello", HTML),
        ("to_html", "/news/hello", ATOM),
    ],
)
async def test_rendering_does_not_block_the_event_loop(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    path: str,
    accept: str,
) -> None:
    reached, opened = Event(), Event()
    render = getattr(pages, name)

    def held_up(text: str) -> str:
        reached.set()
        assert opened.wait(TIMEOUT)
        return str(render(text))

    monkeypatch.setattr(pages, name, held_up)
    client = await aiohttp_client(create_app())
    await create(client)
    reading = asyncio.create_task(read(client, path, accept))
    await until(reached.is_set)
    async with client.get("/livez") as response:
        assert response.status == 200
    assert not reading.done()
    opened.set()
    assert "text" in await reading


@pytest.mark.parametrize("field", HOSTILE)
async def test_hostile_value_is_shown_without_harm(client: Client, field: str) -> None:
    for value in HOSTILE[field]:
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


async def test_markup_in_a_title_is_escaped(client: Client) -> None:
    await create(client, MARKUP, slug="markup")
    for path in ("/news", "/news/markup"):
        page = await read(client, path)
        assert "&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "<script>alert" not in page
