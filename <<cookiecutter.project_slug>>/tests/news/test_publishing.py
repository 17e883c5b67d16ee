import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import hdrs
from pytest_aiohttp import AiohttpClient
from sqlalchemy import select

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.database import DATABASE
from package_name.live import BUS, EVERYBODY
from package_name.live.sockets import PROTOCOL
from package_name.news.models import Item
from package_name.web.context import SETTINGS

from ..helpers import TIMEOUT, Client, until
from .helpers import TOKEN, WRITER, change, create, draft, wait_for_writers


# % endfilter
async def get(client: Client, id_: int) -> dict[str, Any]:
    async with client.get(f"/api/news/{id_}", headers=WRITER) as response:
        item: dict[str, Any] = await response.json()
        return item


async def test_changes_that_the_public_sees_are_published(client: Client) -> None:
    assert client.app
    async with client.app[BUS].subscribe(EVERYBODY) as messages:

        async def heard() -> list[Any]:
            """Return the messages so far."""
            await client.app[BUS].publish(EVERYBODY, "now")
            found = []
            while (message := await anext(messages)) != "now":
                found.append(message)
            return found

        item = await create(client, "Über", published_at=None)
        assert await heard() == []
        assert await change(client, item, title="Über alles") == 200
        assert await heard() == []  # it is still a draft
        news = {"type": "news", "title": "Über alles", "url": "/news/%C3%BCber"}

        item = await get(client, item["id"])
        now = {"title": "Über alles", "published_at": "2024-01-01T00:00:00Z"}
        assert await change(client, item, **now) == 200
        assert await heard() == [news | {"change": "published", "was": None}]

        item = await get(client, item["id"])
        assert await change(client, item) == 200
        assert await heard() == []  # nothing has changed

        item = await get(client, item["id"])
        assert await change(client, item, body="Other") == 200
        assert await heard() == [news | {"change": "changed", "was": news["url"]}]
        assert await change(client, item, body="Too late") == 409
        assert await heard() == []

        item = await get(client, item["id"])
        assert await change(client, item, published_at=None) == 200
        assert await heard() == [news | {"change": "withdrawn", "was": news["url"]}]

        item = await create(client)
        assert [message["change"] for message in await heard()] == ["published"]
        path = f"/api/news/{item['id']}?version=1"
        async with client.delete(path, headers=WRITER) as response:
            assert response.status == 204
        (message,) = await heard()
        assert message == {
            "type": "news",
            "change": "withdrawn",
            "title": "Hello",
            "url": "/news/hello",
            "was": "/news/hello",
        }


async def test_changes_reach_open_pages_of_other_workers(aiohttp_client: AiohttpClient) -> None:
    one, other = await aiohttp_client(create_app()), await aiohttp_client(create_app())
    async with other.ws_connect("/live", protocols=(PROTOCOL,)) as ws:
        await create(one, "x" * 200)
        assert (await ws.receive_json(timeout=TIMEOUT))["change"] == "published"


async def test_second_change_of_a_version_is_409(client: Client) -> None:
    item = await create(client)
    assert await change(client, item, title="One") == 200
    assert await change(client, item, title="Other") == 409
    assert (await get(client, item["id"]))["title"] == "One"


async def test_of_concurrent_changes_of_a_version_one_succeeds(
    aiohttp_client: AiohttpClient,
) -> None:
    one, other = await aiohttp_client(create_app()), await aiohttp_client(create_app())
    item = await create(one)
    for version in range(1, 6):
        item = await get(one, item["id"])
        assert item["version"] == version
        statuses = await asyncio.gather(
            *(change(client, item, title=f"{i}") for i in range(4) for client in (one, other))
        )
        assert sorted(statuses) == [200, *[409] * 7]


async def test_of_a_concurrent_change_and_deletions_one_succeeds(client: Client) -> None:
    for _ in range(5):
        item = await create(client)

        async def delete(path: str = f"/api/news/{item['id']}?version=1") -> int:
            async with client.delete(path, headers=WRITER) as response:
                return response.status

        statuses = await asyncio.gather(change(client, item, title="Changed"), delete(), delete())
        assert len([status for status in statuses if status in {200, 204}]) == 1
        assert set(statuses) <= {200, 204, 404, 409}


async def test_change_that_waited_for_another_one_is_409(client: Client) -> None:
    assert client.app
    item = await create(client)
    path = f"/api/news/{item['id']}?version=1"
    async with client.app[DATABASE].writing() as session:
        (theirs,) = await session.scalars(select(Item).with_for_update())
        changing = asyncio.create_task(change(client, item, title="Too late"))
        deleting = asyncio.ensure_future(client.delete(path, headers=WRITER))
        await wait_for_writers(client.app[DATABASE], session, 2)
        theirs.title = "Theirs"
    assert await changing == 409
    assert (await deleting).status == 409
    assert (await get(client, item["id"]))["title"] == "Theirs"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_change_is_completed_when_the_client_leaves(
    client: Client, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    assert client.app
    caplog.set_level("INFO")
    item = await create(client)
    body = json.dumps(draft("Changed", version=1))
    lines = [
        f"{method} /api/news/{item['id']}?version=1 HTTP/1.1",
        f"Host: localhost\r\nAuthorization: Bearer {TOKEN}",
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}",
    ]
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    async with client.app[BUS].subscribe(EVERYBODY) as messages:
        async with client.app[DATABASE].writing() as session:
            await session.execute(select(Item).with_for_update())
            writer.write("\r\n".join(lines).encode())
            await wait_for_writers(client.app[DATABASE], session, 1)
            writer.close()
            await until(lambda: f"cancelled: {method} /api/news/" in caplog.text)
        async with asyncio.timeout(TIMEOUT):
            message = await anext(messages)
    assert message["change"] == ("changed" if method == "PUT" else "withdrawn")
    async with client.get(f"/api/news/{item['id']}") as response:
        assert response.status == (200 if method == "PUT" else 404)
        if method == "PUT":
            assert (await response.json())["title"] == "Changed"


async def test_change_that_waits_too_long_is_503(
    client: Client, advance: Callable[[float], None]
) -> None:
    assert client.app
    settings = client.app[SETTINGS]
    item = await create(client)
    async with client.app[DATABASE].writing() as session:
        await session.execute(select(Item).with_for_update())
        path, sent = f"/api/news/{item['id']}", draft(version=1)
        changing = asyncio.ensure_future(client.put(path, json=sent, headers=WRITER))
        await wait_for_writers(client.app[DATABASE], session, 1)
        advance(settings.database_timeout + settings.database_statement_timeout)
        async with await changing as response:
            assert response.status == 503
            assert hdrs.RETRY_AFTER in response.headers
    assert (await get(client, item["id"]))["version"] == 1
