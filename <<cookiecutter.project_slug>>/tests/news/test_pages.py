import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from aiohttp import hdrs
from pytest_aiohttp import AiohttpClient
from yarl import URL

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app

from ..helpers import Client
from .helpers import ATOM, FORMS, HTML, JSON, NS, change, create, entries, read

# % endfilter
NOW = datetime(2024, 1, 31, tzinfo=UTC)
DECOMPOSED = "/news/caf" + quote("e\u0301")


async def fill(client: Client, count: int) -> None:
    """Write so many items; each two are of the same moment, and the last one is the latest."""
    for i in range(count):
        await create(client, f"Item {i}", published_at=(NOW + timedelta(hours=i // 2)).isoformat())


async def test_there_are_none_at_first(client: Client) -> None:
    assert "There are no news yet." in await read(client, "/news")
    async with client.get("/news", headers={hdrs.ACCEPT: JSON}) as response:
        assert await response.json() == {"items": [], "next": None}
    assert await entries(client) == []
    feed = ElementTree.fromstring(await read(client, "/news.atom", ATOM))
    assert feed.findtext(f"{NS}updated") == "1970-01-01T00:00:00+00:00"


async def test_they_are_in_the_menu_and_name_their_feed(client: Client) -> None:
    assert '<a href="/news">News</a>' in await read(client, "/")
    await create(client)
    for path in ("/news", "/news/hello"):
        page = await read(client, path)
        assert '<a href="/news" aria-current="page">News</a>' in page
        (feed,) = re.findall(r'<link rel="alternate" type="application/atom\+xml"[^>]*>', page)
        assert 'href="/news.atom"' in feed


async def test_an_item_is_what_the_client_accepts(client: Client) -> None:
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


@pytest.mark.parametrize("accept", FORMS)
async def test_the_list_goes_back_page_by_page(client: Client, accept: str) -> None:
    await fill(client, 45)
    await create(client, "A draft", published_at=None)
    seen: list[str] = []
    path: str | None = "/news"
    sizes = []
    while path:
        text = await read(client, path, accept)
        if accept == HTML:
            titles = re.findall(r"<h2.*>(Item \d+)</a></h2>", text)
            older = re.search(r'rel="next" href="([^"]*)"', text)
            path = older and older[1]
        elif accept == JSON:
            async with client.get(path, headers={hdrs.ACCEPT: JSON}) as response:
                page = await response.json()
                path = page["next"] and URL(page["next"]).raw_path_qs
                assert response.headers.get(hdrs.LINK) == (
                    f'<{page["next"]}>; rel="next"' if path else None
                )
            titles = [item["title"] for item in page["items"]]
        else:
            feed = ElementTree.fromstring(text)
            titles = [entry.findtext(f"{NS}title") or "" for entry in feed.iter(f"{NS}entry")]
            links = {link.get("rel"): link.get("href", "") for link in feed.findall(f"{NS}link")}
            assert all(link.startswith(str(client.make_url("/"))) for link in links.values())
            assert await read(client, URL(links["self"]).raw_path_qs, ATOM) == text
            path = URL(links["next"]).raw_path_qs if "next" in links else None
        sizes.append(len(titles))
        seen += titles
    assert sizes == [20, 20, 5]
    assert seen == [f"Item {i}" for i in reversed(range(45))]


async def test_what_is_older_than_computers_has_its_place(client: Client) -> None:
    for i in range(21):
        await create(client, f"Item {i}", published_at=f"10{i + 10}-01-01T00:00:00Z")
    async with client.get("/news", headers={hdrs.ACCEPT: JSON}) as response:
        older = (await response.json())["next"]
    async with client.get(URL(older).raw_path_qs, headers={hdrs.ACCEPT: JSON}) as response:
        (item,) = (await response.json())["items"]
    assert item["published_at"] == "1010-01-01T00:00:00+00:00"


async def test_a_full_page_need_not_have_another(client: Client) -> None:
    await fill(client, 20)
    assert 'rel="next"' not in await read(client, "/news")


async def test_a_feed_reader_that_takes_everything_gets_the_feed(client: Client) -> None:
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
async def test_an_address_that_is_written_otherwise_leads_to_the_item(
    client: Client, path: str
) -> None:
    await create(client, "Café")
    url = URL(path, encoded=True)
    async with client.get(url, allow_redirects=False) as response:
        assert response.status == 308
        assert response.headers[hdrs.LOCATION] == "/news/" + quote("café")
    async with client.get(url) as response:
        assert response.status == 200


@pytest.mark.parametrize("accept", FORMS)
async def test_there_is_nothing_else(client: Client, accept: str) -> None:
    await create(client, "Hidden", published_at=None)
    for slug in ("-", "%00", "%FF", "%F0%9F%8E%89", "x%00y", "%ED%A0%80", "a%2Fb", "hidden"):
        url = URL(f"/news/{slug}", encoded=True)
        async with client.get(url, headers={hdrs.ACCEPT: accept}) as response:
            assert response.status == 404, slug


@pytest.mark.parametrize("path", ["/news", "/news.atom", "/api/news"])
async def test_a_cursor_that_is_none(client: Client, path: str) -> None:
    for before in (
        *("", "-", "1", "1-", "-1", "x", "x-1", "1-x", "1.5-1", "1-2147483648", "\0-\0"),
        *(f"{'9' * 5000}-1", f"1-{'9' * 5000}", f"{'9' * 30}-1", "\ud800-1", "\u202e1-1"),
        *("1-1'; DROP TABLE news; --", "1-1 OR 1=1", "<script>alert(1)</script>", "../../etc"),
    ):
        url = URL(f"{path}?before={quote(before, errors='surrogatepass')}", encoded=True)
        async with client.get(url) as response:
            assert response.status == 400, before
            assert (await response.json())["detail"] == "There is no such page."


async def test_urls_are_those_by_which_the_client_came(
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


async def test_ids_in_feeds_never_change(client: Client) -> None:
    item = await create(client)
    (before,) = await entries(client)
    assert await change(client, item, title="Other", slug="other") == 200
    (after,) = await entries(client)
    assert after.findtext(f"{NS}title") == "Other"
    assert before.findtext(f"{NS}id") == after.findtext(f"{NS}id")
