import asyncio
import time

import pytest
from aiohttp import hdrs
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import about
from package_name.app import create_app
from package_name.web import readiness
from package_name.web.negotiation import best_match, parse_accept

from ..helpers import Client


# % endfilter
@pytest.mark.parametrize("path", ["/", "/about"])
async def test_pages_are_html(client: Client, path: str) -> None:
    async with client.get(path, headers={hdrs.ACCEPT: "text/html"}) as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        assert response.headers[hdrs.CACHE_CONTROL] == "private, no-cache"
        assert "<h1" in await response.text()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/html"),
        ("*/*", "text/html"),
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html, application/json;q=0.9", "text/html"),
        ("text/*;q=0.1, application/*;q=0.2", "application/json"),
        ("*/*, text/html;q=0", "application/json"),
        ("APPLICATION/JSON", "application/json"),
    ],
)
async def test_about_is_what_the_client_accepts(
    client: Client, accept: str | None, content_type: str
) -> None:
    headers = {} if accept is None else {hdrs.ACCEPT: accept}
    async with client.get("/about", headers=headers, skip_auto_headers=[hdrs.ACCEPT]) as response:
        assert response.status == 200
        assert response.content_type == content_type
        assert hdrs.ACCEPT in response.headers[hdrs.VARY]


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0", "*/*;q=0"])
async def test_about_is_refused_when_nothing_is_acceptable(client: Client, accept: str) -> None:
    async with client.get("/about", headers={hdrs.ACCEPT: accept}) as response:
        assert response.status == 406
        assert (await response.json())["detail"] == "Available as text/html and application/json."
        assert hdrs.ACCEPT in response.headers[hdrs.VARY]


async def test_about_as_data(client: Client) -> None:
    async with client.get("/about", headers={hdrs.ACCEPT: "application/json"}) as response:
        assert await response.json() == {
            "name": about.NAME,
            "description": about.DESCRIPTION,
            "author": about.AUTHOR,
        }


def test_the_most_specific_range_decides_and_the_first_of_equals_wins() -> None:
    offered = ("text/html", "text/plain")
    assert best_match("text/*, text/html;q=0.2", offered) == "text/plain"
    assert best_match("text/*", offered) == "text/html"
    assert best_match("", offered) == "text/html"


def test_weights_that_are_none_leave_their_range_out() -> None:
    assert parse_accept("a/b;q=2, c/d;q=x, e/f;level=1;q=0.5,, g/h") == {"e/f": 0.5, "g/h": 1.0}


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/robots.txt", "text/plain"), ("/favicon.ico", "image/vnd.microsoft.icon")],
)
async def test_files_that_programs_look_for(client: Client, path: str, content_type: str) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        assert response.content_type == content_type
        assert response.headers[hdrs.CACHE_CONTROL] == "public, max-age=86400"
        assert await response.read()


async def test_livez_asks_nothing(client: Client) -> None:
    assert client.app
    client.app[readiness.CHECKS]["broken"] = asyncio.Event().wait
    loop = asyncio.get_running_loop()
    busy = [loop.run_in_executor(None, time.sleep, 0.5) for _ in range(64)]
    async with asyncio.timeout(0.4), client.get("/livez") as response:
        assert response.status == 200
        answer = await response.json()
    assert set(answer) == {"status", "lag_ms"}
    assert answer["status"] == "alive"
    assert answer["lag_ms"] >= 0
    for future in busy:
        future.cancel()


async def test_readyz_asks_every_resource(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise ConnectionError

    monkeypatch.setattr(readiness, "PATIENCE", 0.05)
    app = create_app()
    client = await aiohttp_client(app)
    async with client.get("/readyz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ready", "down": []}

    readiness.add_check(app, "failing", fails)
    readiness.add_check(app, "hanging", asyncio.Event().wait)
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert (await response.json())["down"] == ["failing", "hanging"]
        assert response.headers[hdrs.CACHE_CONTROL] == "no-store"


async def test_a_worker_whose_threads_are_all_busy_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PATIENCE", 0.05)
    loop = asyncio.get_running_loop()
    busy = [loop.run_in_executor(None, time.sleep, 0.5) for _ in range(64)]
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert (await response.json())["down"] == ["threads"]
    for future in busy:
        future.cancel()


async def test_a_worker_that_is_about_to_stop_lives_but_is_not_ready(client: Client) -> None:
    assert client.app
    await client.app.shutdown()
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert await response.json() == {"status": "draining", "down": []}
    async with client.get("/livez") as response:
        assert response.status == 200
