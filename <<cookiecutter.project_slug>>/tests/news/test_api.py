import asyncio
import json
from http import HTTPStatus
from io import BytesIO
from typing import Any

import pytest
from aiohttp import hdrs
from pytest_aiohttp import AiohttpClient
from yarl import URL

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app

from ..helpers import Client
from .helpers import HTML, PAST, TOKEN, WRITER, change, create, draft

# % endfilter
PROBLEM = "application/problem+json"
AS_JSON = {hdrs.CONTENT_TYPE: "application/json"}
FRIEND = "https://app.example.com"


async def refused(client: Client, status: int, sent: object, **headers: str) -> dict[str, Any]:
    """Send what cannot be written, and return the problem."""
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    everything = WRITER | AS_JSON | {k.replace("_", "-"): v for k, v in headers.items()}
    async with client.post("/api/news", data=body, headers=everything) as response:
        problem: dict[str, Any] = await response.json()
        assert response.status == status, problem
        assert response.content_type == PROBLEM
        assert problem["status"] == status
    async with client.get("/api/news", headers=WRITER) as response:
        assert (await response.json())["items"] == []
    return problem


async def test_a_life(client: Client) -> None:
    async with client.post("/api/news", json=draft(published_at=None), headers=WRITER) as response:
        assert response.status == 201
        item = await response.json()
        path = response.headers[hdrs.LOCATION]
    assert path == f"/api/news/{item['id']}"
    assert item == {
        "id": item["id"],
        "version": 1,
        "title": "Hello",
        "slug": "hello",
        "url": str(client.make_url("/news/hello")),
        "body": "Some *text*.",
        "published_at": None,
        "updated_at": item["updated_at"],
    }
    for headers, status in ((WRITER, 200), ({}, 404)):
        async with client.get(path, headers=headers) as response:
            assert response.status == status
    assert (await client.get("/news/hello")).status == 404

    changed = draft("Hello again", version=1)
    async with client.put(path, json=changed, headers=WRITER) as response:
        assert response.status == 200
        item = await response.json()
    assert (item["version"], item["title"], item["slug"]) == (2, "Hello again", "hello")
    async with client.get(path) as response:
        assert await response.json() == item
    assert (await client.get("/news/hello")).status == 200

    for version, status in ((1, 409), (2, 204), (2, 404)):
        query = {"version": str(version)}
        async with client.delete(path, params=query, headers=WRITER) as response:
            assert response.status == status
    assert (await client.get(path)).status == 404
    assert await change(client, item) == 404


async def test_drafts_are_listed_for_who_has_a_token(client: Client) -> None:
    for i in range(22):
        await create(client, f"Item {i}", published_at=PAST if i % 2 else None)
    async with client.get("/api/news") as response:
        page = await response.json()
    assert [item["title"] for item in page["items"]] == [f"Item {i}" for i in range(21, 0, -2)]
    assert page["next"] is None

    titles = []
    path: str | None = "/api/news"
    while path:
        async with client.get(path, headers=WRITER) as response:
            page = await response.json()
        titles.append([item["title"] for item in page["items"]])
        path = page["next"] and URL(page["next"]).raw_path_qs
    assert titles == [[f"Item {i}" for i in range(21, 1, -1)], ["Item 1", "Item 0"]]
    for before, status in (("x", 400), ("9" * 18, 200), ("9" * 5000, 400), ("-1", 400)):
        url = f"/api/news?before={before}"
        async with client.get(url, headers=WRITER) as response:
            assert response.status == status


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        (None, "Bearer"),
        ("", "Bearer"),
        (f"Basic {TOKEN}", "Bearer"),
        (TOKEN, "Bearer"),
        ("Bearer", 'Bearer error="invalid_token"'),
        (f"Bearer {TOKEN}x", 'Bearer error="invalid_token"'),
        (f"Bearer {TOKEN[:-1]}", 'Bearer error="invalid_token"'),
        ("Bearer \udcff", 'Bearer error="invalid_token"'),
    ],
)
async def test_who_has_no_token_writes_nothing(
    client: Client, authorization: str | None, challenge: str
) -> None:
    item = await create(client)
    headers = {} if authorization is None else {hdrs.AUTHORIZATION: authorization}
    path = f"/api/news/{item['id']}"
    for ask, there in ((client.post, "/api/news"), (client.put, path), (client.delete, path)):
        async with ask(there, json=draft(version=1), headers=headers) as response:
            assert response.status == 401
            assert response.headers[hdrs.WWW_AUTHENTICATE] == challenge
            assert response.content_type == PROBLEM
    async with client.get(path, headers=headers) as response:
        assert response.status == (200 if challenge == "Bearer" else 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_each_token_will_do(client: Client, scheme: str) -> None:
    headers = {hdrs.AUTHORIZATION: f"{scheme} another-token-that-is-long-enough-too"}
    async with client.post("/api/news", json=draft(), headers=headers) as response:
        assert response.status == 201


@pytest.mark.parametrize("sent", ["", "Bearer ", f"Bearer {TOKEN}"])
async def test_without_tokens_nobody_writes(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setenv("API_TOKENS", "")
    client = await aiohttp_client(create_app())
    headers = {hdrs.AUTHORIZATION: sent}
    async with client.post("/api/news", json=draft(), headers=headers) as response:
        assert response.status == 401


async def test_every_mistake_is_named(client: Client) -> None:
    sent = {"body": 5, "slug": "No Slug", "published_at": "2999-01-01T00:00:00Z", "~a/ö": 1}
    problem = await refused(client, 422, sent)
    assert problem["title"] == HTTPStatus(422).phrase  # which has another name since Python 3.13
    assert problem["errors"] == [
        {"pointer": "#/title", "detail": "Field required"},
        {
            "pointer": "#/slug",
            "detail": "may have lower-case letters, digits, and single hyphens between them",
        },
        {"pointer": "#/body", "detail": "Input should be a valid string"},
        {"pointer": "#/published_at", "detail": "lies in the future"},
        {"pointer": "#/~0a~1%C3%B6", "detail": "Extra inputs are not permitted"},
    ]
    assert len((await refused(client, 422, dict.fromkeys(map(str, range(50_000)))))["errors"]) == 20


async def test_a_person_reads_them_as_a_sentence(client: Client) -> None:
    headers = WRITER | {hdrs.ACCEPT: HTML}
    async with client.post("/api/news", json=draft(" "), headers=headers) as response:
        assert response.status == 422
        assert response.content_type == HTML
        assert "<p>is empty</p>" in await response.text()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        b'{"title": "\xff", "body": "x"}',
        b'{"title": "\xed\xa0\x80", "body": "x"}',
        b'{"title": "\\ud800", "body": "x"}',
        '{"title": "x", "body": "x"}'.encode("utf-16"),
        b'{"title": "a\0b", "body": "x"}',
        b"[" * 100_000,
        b'{"title": "x", "body": "x", "version": ' + b"9" * 500_000 + b"}",
    ],
)
async def test_what_is_no_json(client: Client, sent: bytes) -> None:
    assert (await refused(client, 400, sent))["detail"].startswith("Invalid JSON: ")


@pytest.mark.parametrize("sent", [[], "text", None, 5, True, float("nan")])
async def test_what_is_no_object(client: Client, sent: object) -> None:
    (error,) = (await refused(client, 422, sent))["errors"]
    assert error == {"pointer": "#", "detail": "Input should be an object"}


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
)
async def test_what_is_sent_as_something_else(client: Client, kind: str) -> None:
    await refused(client, 415, draft(), Content_Type=kind)


async def test_what_is_larger_than_the_server_takes(client: Client) -> None:
    body = BytesIO(b" " * 2_000_000)
    async with client.post("/api/news", data=body, headers=WRITER | AS_JSON) as response:
        assert response.status == 413


async def test_a_slug_is_given_once(client: Client) -> None:
    await create(client, slug="ünïcode")
    async with client.post(
        "/api/news", json=draft(slug="u\u0308ni\u0308code"), headers=WRITER
    ) as response:
        assert response.status == 422
        assert (await response.json())["errors"] == [{"pointer": "#/slug", "detail": "is taken"}]
    async with client.post("/api/news", json=draft("!?"), headers=WRITER) as response:
        assert response.status == 422
        (error,) = (await response.json())["errors"]
        assert error["pointer"] == "#/slug"


@pytest.mark.parametrize("title", ["Hello", "x" * 200, "x" * 89 + " " + "y" * 110])
async def test_the_same_title_makes_slugs_of_its_own(client: Client, title: str) -> None:
    slugs = [(await create(client, title))["slug"] for _ in range(11)]
    assert len(set(slugs)) == 11
    for slug in slugs:
        assert len(slug) <= 100
        assert slug[-1] != "-"
        assert "--" not in slug


async def test_the_same_title_at_the_same_time(client: Client) -> None:
    items = await asyncio.gather(*(create(client) for _ in range(15)))
    assert {item["slug"] for item in items} == {"hello", *(f"hello-{i}" for i in range(2, 16))}


@pytest.mark.parametrize("id_", ["0", "999", "2147483648", "9" * 18])
async def test_there_is_no_such_item(client: Client, id_: str) -> None:
    path = f"/api/news/{id_}"
    for ask in (client.get, client.put, client.delete):
        async with ask(path, json=draft(version=1), params={"version": "1"}, headers=WRITER) as r:
            assert r.status == 404


async def test_a_change_names_the_version(client: Client) -> None:
    item = await create(client)
    path = f"/api/news/{item['id']}"
    async with client.put(path, json=draft(), headers=WRITER) as response:
        assert response.status == 422
        (error,) = (await response.json())["errors"]
        assert error == {"pointer": "#/version", "detail": "Field required"}
    for query in ({}, {"version": "x"}, {"version": "9" * 5000}):
        async with client.delete(path, params=query, headers=WRITER) as response:
            assert response.status == 422
            (error,) = (await response.json())["errors"]
            assert error == {"parameter": "version", "detail": "has to be a number"}


async def test_other_methods(client: Client) -> None:
    async with client.patch("/api/news/1", json={}, headers=WRITER) as response:
        assert response.status == 405
        assert set(response.headers[hdrs.ALLOW].split(",")) == {"DELETE", "GET", "HEAD", "PUT"}


@pytest.fixture
async def shared(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("CORS_ORIGINS", FRIEND)
    return await aiohttp_client(create_app())


@pytest.mark.parametrize(
    ("path", "method"),
    [
        *[("/api/news", method) for method in ("GET", "POST")],
        *[("/api/news/1", method) for method in ("GET", "PUT", "DELETE")],
        *[("/news", "GET"), ("/news/hello", "GET"), ("/news.atom", "GET")],
    ],
)
async def test_pages_of_a_friend_may_ask(shared: Client, path: str, method: str) -> None:
    asked = {
        hdrs.ORIGIN: FRIEND,
        hdrs.ACCESS_CONTROL_REQUEST_METHOD: method,
        hdrs.ACCESS_CONTROL_REQUEST_HEADERS: "authorization,content-type",
    }
    async with shared.options(path, headers=asked) as response:
        assert response.status == 200
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == FRIEND
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] == method
        allowed = response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS].lower().split(",")
        assert set(allowed) == {"authorization", "content-type"}
    stranger = asked | {hdrs.ORIGIN: "https://evil.example"}
    async with shared.options(path, headers=stranger) as response:
        assert response.status == 403


async def test_pages_of_a_friend_write(shared: Client) -> None:
    headers = WRITER | {hdrs.ORIGIN: FRIEND, "Sec-Fetch-Site": "cross-site"}
    async with shared.post("/api/news", json=draft(), headers=headers) as response:
        assert response.status == 201
        exposed = response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS]
        names = {"x-request-id", "etag", "link", "location"}
        assert set(exposed.lower().split(",")) == names
        path = response.headers[hdrs.LOCATION]
    async with shared.put(path, json=draft(version=1), headers=headers) as response:
        assert response.status == 200
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == FRIEND
    async with shared.delete(f"{path}?version=1", headers=headers) as response:
        assert response.status == 409  # which the page may read
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == FRIEND
    async with shared.delete(f"{path}?version=2", headers=headers) as response:
        assert response.status == 204
    for wrong in ({hdrs.ORIGIN: "https://evil.example"}, {hdrs.COOKIE: "session=x"}):
        async with shared.post("/api/news", json=draft(), headers=headers | wrong) as response:
            assert response.status == 403


async def test_drafts_are_not_kept_by_caches(client: Client) -> None:
    for headers, cached in (({}, "private, no-cache"), (WRITER, "no-store")):
        async with client.get("/api/news", headers=headers) as response:
            assert response.headers[hdrs.CACHE_CONTROL] == cached


def test_short_tokens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKENS", f"{TOKEN},short")
    with pytest.raises(SystemExit, match="API_TOKENS: a token has fewer than 32 characters"):
        create_app()
