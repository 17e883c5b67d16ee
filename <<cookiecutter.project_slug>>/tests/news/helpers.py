"""Helpers that write news items with the API, and read them as browsers and feed readers do."""

import asyncio
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from aiohttp import hdrs
from sqlalchemy.ext.asyncio import AsyncSession

# % filter replace("package_name", cookiecutter.package_name)
from package_name.database import Database

from ..helpers import TIMEOUT, Client

# % endfilter
TOKEN = "a-token-of-the-tests-that-is-long-enough"
WRITER = {hdrs.AUTHORIZATION: f"Bearer {TOKEN}"}
PAST = "2024-02-29T12:00:00+00:00"
HTML, JSON, ATOM = "text/html", "application/json", "application/atom+xml"
FORMS = (HTML, JSON, ATOM)
NS = "{http://www.w3.org/2005/Atom}"
SQL = "x'; DROP TABLE news; --"
MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(1)>]]> &lt;&amp;'
TEMPLATE = "{{ 7 * 7 }}{% include 'base.html' %}"
BIDI = "moc.elpmaxe \u202e.com"
"""Text that looks like another address."""


def draft(title: str = "Hello", **fields: object) -> dict[str, object]:
    return {"title": title, "body": "Some *text*.", "published_at": PAST} | fields


async def create(client: Client, title: str = "Hello", **fields: object) -> dict[str, Any]:
    """Create an item, and return it as the API does."""
    sent = draft(title, **fields)
    async with client.post("/api/news", json=sent, headers=WRITER) as response:
        created: dict[str, Any] = await response.json()
        assert response.status == 201, created
        return created


async def change(client: Client, item: dict[str, Any], **fields: object) -> int:
    """Change some fields of an item, and return the status."""
    kept = {name: item[name] for name in ("title", "slug", "body", "published_at", "version")}
    async with client.put(
        f"/api/news/{item['id']}", json=kept | fields, headers=WRITER
    ) as response:
        return response.status


async def read(client: Client, path: str, accept: str = HTML) -> str:
    async with client.get(path, headers={hdrs.ACCEPT: accept}) as response:
        assert response.status == 200
        assert response.content_type == accept
        return await response.text()


async def entries(client: Client, path: str = "/news.atom") -> list[ElementTree.Element]:
    return ElementTree.fromstring(await read(client, path, ATOM)).findall(f"{NS}entry")


async def wait_for_writers(db: Database, session: AsyncSession, count: int) -> None:
    """Wait until ``count`` writers wait for the session's lock. Raise TimeoutError."""
    waiting = 0
    async with asyncio.timeout(TIMEOUT):
        while waiting < count:
            # % if cookiecutter.database == "postgresql"
            connection = await session.connection()
            found = await connection.exec_driver_sql(
                "SELECT count(*) FROM pg_locks WHERE NOT granted"
            )
            waiting = found.scalar_one()
            # % else
            waiting = len(db._turns._waiters or ())
            # % endif
            await asyncio.sleep(0.005)


class _Harmless(HTMLParser):
    """Parser that fails at markup that could run scripts, except the site's own scripts."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert tag not in {"iframe", "object", "embed", "style", "svg", "math", "form", "base"}
        assert tag != "script" or attributes.get("nonce"), attributes
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, attributes)
            assert name != "style"
            if name in {"href", "src"}:
                scheme = urlsplit("".join((value or "").split())).scheme
                assert scheme in {"", "http", "https", "mailto", "tel"}, value


def assert_harmless(html: str) -> None:
    _Harmless().feed(html)
