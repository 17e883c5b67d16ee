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
from .helpers import BIDI, HTML, MARKUP, PAST, SQL, TOKEN, WRITER, change, create, draft

# % endfilter
PROBLEM = "application/problem+json"
AS_JSON = {hdrs.CONTENT_TYPE: "application/json"}


async def refused(client: Client, status: int, sent: object, **headers: str) -> dict[str, Any]:
    """Send an invalid item, and return the problem."""
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


async def test_item_is_created_read_changed_and_deleted(client: Client) -> None:
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


async def test_list_with_a_token_includes_drafts(client: Client) -> None:
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
async def test_request_without_a_valid_token_is_401(
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
async def test_every_token_is_accepted(client: Client, scheme: str) -> None:
    headers = {hdrs.AUTHORIZATION: f"{scheme} another-token-that-is-long-enough-too"}
    async with client.post("/api/news", json=draft(), headers=headers) as response:
        assert response.status == 201


@pytest.mark.parametrize("sent", ["", "Bearer ", f"Bearer {TOKEN}"])
async def test_without_api_tokens_every_write_is_401(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setenv("API_TOKENS", "")
    client = await aiohttp_client(create_app())
    headers = {hdrs.AUTHORIZATION: sent}
    async with client.post("/api/news", json=draft(), headers=headers) as response:
        assert response.status == 401


async def test_every_invalid_field_is_reported_up_to_a_limit(client: Client) -> None:
    sent = {"body": 5, "slug": "No Slug", "published_at": "2999-01-01T00:00:00Z", "~a/ö": 1}
    problem = await refused(client, 422, sent)
    assert problem["title"] == HTTPStatus(422).phrase  # renamed in Python 3.13
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
    assert len((await refused(client, 422, dict.fromkeys(map(str, range(1000)))))["errors"]) == 20
    (error,) = (await refused(client, 422, draft() | {"x" * 1000: 1}))["errors"]
    assert error["pointer"] == "#/" + "x" * 100


async def test_errors_are_a_page_for_browsers(client: Client) -> None:
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
async def test_invalid_json_is_400(client: Client, sent: bytes) -> None:
    assert (await refused(client, 400, sent))["detail"].startswith("Invalid JSON: ")


@pytest.mark.parametrize("sent", [[], "text", None, 5, True, float("nan")])
async def test_json_that_is_not_an_object_is_422(client: Client, sent: object) -> None:
    (error,) = (await refused(client, 422, sent))["errors"]
    assert error == {"pointer": "#", "detail": "Input should be an object"}


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
)
async def test_other_content_type_is_415(client: Client, kind: str) -> None:
    await refused(client, 415, draft(), Content_Type=kind)


async def test_body_that_is_too_large_is_413(client: Client) -> None:
    body = BytesIO(b" " * 2_000_000)
    async with client.post("/api/news", data=body, headers=WRITER | AS_JSON) as response:
        assert response.status == 413


async def test_slug_that_is_taken_or_cannot_be_made_is_422(client: Client) -> None:
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
async def test_same_title_gets_numbered_slugs(client: Client, title: str) -> None:
    slugs = [(await create(client, title))["slug"] for _ in range(11)]
    assert len(set(slugs)) == 11
    for slug in slugs:
        assert len(slug) <= 100
        assert slug[-1] != "-"
        assert "--" not in slug


async def test_same_title_at_the_same_time_gets_numbered_slugs(client: Client) -> None:
    items = await asyncio.gather(*(create(client) for _ in range(15)))
    assert {item["slug"] for item in items} == {"hello", *(f"hello-{i}" for i in range(2, 16))}


@pytest.mark.parametrize("id_", ["0", "999", "2147483648", "9" * 18])
async def test_unknown_id_is_404(client: Client, id_: str) -> None:
    path = f"/api/news/{id_}"
    for ask in (client.get, client.put, client.delete):
        async with ask(path, json=draft(version=1), params={"version": "1"}, headers=WRITER) as r:
            assert r.status == 404


async def test_change_without_a_version_is_422(client: Client) -> None:
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


async def test_wrong_version_is_409_and_invalid_version_is_422(client: Client) -> None:
    item = await create(client)
    path = f"/api/news/{item['id']}"
    for version in (0, -1, 2, 2**31, 2**63, 2**64, 10**4000):
        assert await change(client, item, title="Changed", version=version) == 409
        async with client.delete(f"{path}?version={version}", headers=WRITER) as response:
            assert response.status == 409
    for text in ("", "x", "1.0", "true", SQL, MARKUP, BIDI, "\0", "9" * 5000, "[]", "1,1"):
        async with client.delete(path, params={"version": text}, headers=WRITER) as response:
            assert response.status == 422, text
    async with client.get(path) as response:
        assert await response.json() == item


async def test_other_method_is_405(client: Client) -> None:
    async with client.patch("/api/news/1", json={}, headers=WRITER) as response:
        assert response.status == 405
        assert set(response.headers[hdrs.ALLOW].split(",")) == {"DELETE", "GET", "HEAD", "PUT"}


async def test_change_of_another_version_than_the_client_names_is_412(client: Client) -> None:
    item = await create(client)
    path = f"/api/news/{item['id']}"
    async with client.get(path, headers=WRITER) as response:
        tag = response.headers[hdrs.ETAG]
        before = await response.read()
    assert tag.startswith('"')

    async def ask(method: str, **headers: str) -> int:
        everything = WRITER | {name.replace("_", "-"): value for name, value in headers.items()}
        where = f"{path}?version=1" if method == "DELETE" else path
        body = draft("Changed", version=1) if method == "PUT" else None
        async with client.request(method, where, json=body, headers=everything) as response:
            return response.status

    for method in ("PUT", "DELETE"):
        for value in ('"other"', f"W/{tag}", '"other", W/"x"', "nonsense"):
            assert await ask(method, If_Match=value) == 412
        for value in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            assert await ask(method, If_None_Match=value) == 412
        assert await ask(method, If_Match=tag, If_None_Match=tag) == 412
    async with client.get(path, headers=WRITER) as response:
        assert await response.read() == before
    assert await ask("PUT", If_Match=f'"other", {tag}', If_None_Match='"other"') == 200
    # The item has changed since, and so has its version.
    assert await ask("PUT", If_Match=tag) == 412
    assert await ask("DELETE", If_Match=tag) == 412
    assert await ask("PUT", If_Match="*") == 409
    async with client.get(path, headers=WRITER) as response:
        new = response.headers[hdrs.ETAG]
    assert new != tag
    async with client.delete(
        f"{path}?version=2", headers=WRITER | {hdrs.IF_MATCH: new}
    ) as response:
        assert response.status == 204
    assert await ask("PUT", If_Match=new) == 404
    # Another item may get the same id.
    again = await create(client)
    async with client.get(f"/api/news/{again['id']}") as response:
        assert response.headers[hdrs.ETAG] not in {tag, new}


async def test_response_to_a_token_is_not_stored_by_caches(client: Client) -> None:
    for headers, cached in (({}, "private, no-cache"), (WRITER, "no-store")):
        async with client.get("/api/news", headers=headers) as response:
            assert response.headers[hdrs.CACHE_CONTROL] == cached


def test_short_token_in_the_settings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKENS", f"{TOKEN},short")
    with pytest.raises(SystemExit, match="API_TOKENS: a token has fewer than 32 characters"):
        create_app()
