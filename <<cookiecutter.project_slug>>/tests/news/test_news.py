"""The routes of the news feature: conditional requests and CORS."""

import re

import pytest
from aiohttp import hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web.conditional import conditional

from ..helpers import Client
from .helpers import ATOM, FORMS, HTML, JSON, WRITER, change, create, draft

# % endfilter
ALLOWED = "https://app.example.com"
CONDITIONAL = [
    *[("/news", accept) for accept in FORMS],
    *[("/news/hello", accept) for accept in FORMS],
    ("/news.atom", "*/*"),
    ("/api/news", JSON),
]


@pytest.mark.parametrize(("path", "accept"), CONDITIONAL)
async def test_known_etag_is_304_until_the_item_changes(
    client: Client, path: str, accept: str
) -> None:
    item = await create(client)
    headers = {hdrs.ACCEPT: accept}
    async with client.get(path, headers=headers) as response:
        assert response.status == 200
        assert "Content-Security-Policy" in response.headers
        tag = response.headers[hdrs.ETAG]
        assert re.fullmatch('W/"[0-9a-f]{32}"', tag)
        first = response.headers
        body = await response.read()
    async with client.head(path, headers=headers) as response:
        assert response.status == 200
        assert response.headers[hdrs.ETAG] == tag
        assert response.headers[hdrs.CONTENT_LENGTH] == str(len(body))
        assert await response.read() == b""

    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        for ask in (client.get, client.head):
            async with ask(path, headers=headers | {hdrs.IF_NONE_MATCH: known}) as response:
                assert response.status == 304
                assert await response.read() == b""
                # A new nonce would not match the page that the browser has cached.
                assert "Content-Security-Policy" not in response.headers
                for name in (hdrs.ETAG, hdrs.CACHE_CONTROL):
                    assert response.headers[name] == first[name]
                assert response.headers.getall(hdrs.VARY, []) == first.getall(hdrs.VARY, [])
    assert first[hdrs.CACHE_CONTROL] == "private, no-cache"

    assert await change(client, item, title="Changed") == 200
    for known in (tag, '"other"', "nonsense", ""):
        async with client.get(path, headers=headers | {hdrs.IF_NONE_MATCH: known}) as response:
            assert response.status == 200
            assert response.headers[hdrs.ETAG] != tag
            assert "Changed" in await response.text()


async def test_weak_etag_does_not_match_if_match(client: Client) -> None:
    async with client.get("/news") as response:
        tag = response.headers[hdrs.ETAG]
    for given, status in ((tag, 412), ("*", 200)):
        async with client.get("/news", headers={hdrs.IF_MATCH: given}) as response:
            assert response.status == status


async def test_formats_of_one_url_have_different_etags(client: Client) -> None:
    tags = set()
    for accept in (HTML, JSON, ATOM):
        async with client.get("/news", headers={hdrs.ACCEPT: accept}) as response:
            assert response.headers[hdrs.VARY] == hdrs.ACCEPT
            tags.add(response.headers[hdrs.ETAG])
    assert len(tags) == 3


async def test_etag_without_a_token_is_not_known_with_one(client: Client) -> None:
    await create(client, published_at=None)
    async with client.get("/api/news") as response:
        known = {hdrs.IF_NONE_MATCH: response.headers[hdrs.ETAG]}
    async with client.get("/api/news", headers=WRITER | known) as response:
        assert response.status == 200


@pytest.mark.parametrize(("path", "status"), [("/news/none", 404), ("/news?before=x", 400)])
async def test_error_has_no_etag(client: Client, path: str, status: int) -> None:
    async with client.get(path, headers={hdrs.IF_NONE_MATCH: "*"}) as response:
        assert response.status == status
        assert hdrs.ETAG not in response.headers


async def test_streamed_response_has_no_etag(aiohttp_client: AiohttpClient) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    app = create_app()
    app.router.add_get("/stream", conditional(stream))
    client = await aiohttp_client(app)
    async with client.get("/stream", headers={hdrs.IF_NONE_MATCH: "*"}) as response:
        assert response.status == 200
        assert hdrs.ETAG not in response.headers


@pytest.fixture
async def client_with_cors(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> Client:
    monkeypatch.setenv("CORS_ORIGINS", ALLOWED)
    return await aiohttp_client(create_app())


@pytest.mark.parametrize(
    ("path", "method"),
    [
        *[("/api/news", method) for method in ("GET", "POST")],
        *[("/api/news/1", method) for method in ("GET", "PUT", "DELETE")],
        *[("/news", "GET"), ("/news/hello", "GET"), ("/news.atom", "GET")],
    ],
)
async def test_preflight_of_an_allowed_origin_is_answered(
    client_with_cors: Client, path: str, method: str
) -> None:
    asked = {
        hdrs.ORIGIN: ALLOWED,
        hdrs.ACCESS_CONTROL_REQUEST_METHOD: method,
        hdrs.ACCESS_CONTROL_REQUEST_HEADERS: "authorization,content-type",
    }
    async with client_with_cors.options(path, headers=asked) as response:
        assert response.status == 200
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == ALLOWED
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] == method
        allowed = response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS].lower().split(",")
        assert set(allowed) == {"authorization", "content-type"}
    stranger = asked | {hdrs.ORIGIN: "https://evil.example"}
    async with client_with_cors.options(path, headers=stranger) as response:
        assert response.status == 403


async def test_allowed_origin_writes_without_cookies(client_with_cors: Client) -> None:
    headers = WRITER | {hdrs.ORIGIN: ALLOWED, "Sec-Fetch-Site": "cross-site"}
    async with client_with_cors.post("/api/news", json=draft(), headers=headers) as response:
        assert response.status == 201
        exposed = response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS]
        names = {"x-request-id", "etag", "link", "location"}
        assert set(exposed.lower().split(",")) == names
        path = response.headers[hdrs.LOCATION]
    async with client_with_cors.put(path, json=draft(version=1), headers=headers) as response:
        assert response.status == 200
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == ALLOWED
    async with client_with_cors.delete(f"{path}?version=1", headers=headers) as response:
        assert response.status == 409  # readable by the page
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == ALLOWED
    async with client_with_cors.delete(f"{path}?version=2", headers=headers) as response:
        assert response.status == 204
    for wrong in ({hdrs.ORIGIN: "https://evil.example"}, {hdrs.COOKIE: "session=x"}):
        async with client_with_cors.post(
            "/api/news", json=draft(), headers=headers | wrong
        ) as response:
            assert response.status == 403
