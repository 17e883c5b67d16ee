import re

import pytest
from aiohttp import hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web.conditional import conditional

from ..helpers import Client
from .helpers import ATOM, FORMS, HTML, JSON, WRITER, change, create

# % endfilter
CASES = [
    *[("/news", accept) for accept in FORMS],
    *[("/news/hello", accept) for accept in FORMS],
    ("/news.atom", "*/*"),
    ("/api/news", JSON),
]


@pytest.mark.parametrize(("path", "accept"), CASES)
async def test_what_is_known_is_not_sent_again(client: Client, path: str, accept: str) -> None:
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
                # A new nonce would not fit the page that the browser keeps.
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


async def test_forms_of_one_address_have_tags_of_their_own(client: Client) -> None:
    tags = set()
    for accept in (HTML, JSON, ATOM):
        async with client.get("/news", headers={hdrs.ACCEPT: accept}) as response:
            assert response.headers[hdrs.VARY] == hdrs.ACCEPT
            tags.add(response.headers[hdrs.ETAG])
    assert len(tags) == 3


async def test_who_sends_a_token_is_not_told_that_nothing_changed(client: Client) -> None:
    await create(client, published_at=None)
    async with client.get("/api/news") as response:
        known = {hdrs.IF_NONE_MATCH: response.headers[hdrs.ETAG]}
    async with client.get("/api/news", headers=WRITER | known) as response:
        assert response.status == 200


@pytest.mark.parametrize(("path", "status"), [("/news/none", 404), ("/news?before=x", 400)])
async def test_an_error_has_no_tag(client: Client, path: str, status: int) -> None:
    async with client.get(path, headers={hdrs.IF_NONE_MATCH: "*"}) as response:
        assert response.status == status
        assert hdrs.ETAG not in response.headers


async def test_what_is_sent_bit_by_bit_has_no_tag(aiohttp_client: AiohttpClient) -> None:
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
