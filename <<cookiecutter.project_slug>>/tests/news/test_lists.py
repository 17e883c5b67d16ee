import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from aiohttp import hdrs
from yarl import URL

from ..helpers import Client
from .helpers import ATOM, FORMS, HTML, JSON, NS, create, read

NOW = datetime(2024, 1, 31, tzinfo=UTC)


async def fill(client: Client, count: int) -> None:
    """Create items, the latest one last; two items share each time."""
    for i in range(count):
        await create(client, f"Item {i}", published_at=(NOW + timedelta(hours=i // 2)).isoformat())


@pytest.mark.parametrize("accept", FORMS)
async def test_list_has_pages_in_all_formats(client: Client, accept: str) -> None:
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


async def test_list_includes_moments_before_1970(client: Client) -> None:
    for i in range(21):
        await create(client, f"Item {i}", published_at=f"10{i + 10}-01-01T00:00:00Z")
    async with client.get("/news", headers={hdrs.ACCEPT: JSON}) as response:
        older = (await response.json())["next"]
    async with client.get(URL(older).raw_path_qs, headers={hdrs.ACCEPT: JSON}) as response:
        (item,) = (await response.json())["items"]
    assert item["published_at"] == "1010-01-01T00:00:00+00:00"


async def test_last_page_has_no_next_page_even_if_it_is_full(client: Client) -> None:
    await fill(client, 20)
    assert 'rel="next"' not in await read(client, "/news")


@pytest.mark.parametrize("path", ["/news", "/news.atom", "/api/news"])
async def test_invalid_cursor_is_400(client: Client, path: str) -> None:
    for before in (
        *("", "-", "1", "1-", "-1", "x", "x-1", "1-x", "1.5-1", "1-2147483648", "\0-\0"),
        *(f"{'9' * 5000}-1", f"1-{'9' * 5000}", f"{'9' * 30}-1", "\ud800-1", "\u202e1-1"),
        *("1-1'; DROP TABLE news; --", "1-1 OR 1=1", "<script>alert(1)</script>", "../../etc"),
    ):
        url = URL(f"{path}?before={quote(before, errors='surrogatepass')}", encoded=True)
        async with client.get(url) as response:
            assert response.status == 400, before
            assert (await response.json())["detail"] == "There is no such page."
