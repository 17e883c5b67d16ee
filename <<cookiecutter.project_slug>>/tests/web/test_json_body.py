import json

import pytest
from aiohttp import hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web.json_body import MAX_STRUCTURE, read_json

from ..helpers import Client, own


# % endfilter
async def length(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await read_json(request))))


@pytest.fixture
async def served(aiohttp_client: AiohttpClient) -> Client:
    app = create_app()
    app.router.add_post("/json", length)
    return await aiohttp_client(app)


async def status_of(client: Client, body: bytes, kind: str = "application/json") -> int:
    headers = own(client) | {hdrs.CONTENT_TYPE: kind}
    async with client.post("/json", data=body, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("text", ["x" * 900_000, '"' * 300_000, "\\" * 300_000, "[" * 900_000])
async def test_long_texts_are_read(served: Client, text: str) -> None:
    assert await status_of(served, json.dumps({"text": text}).encode()) == 200


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(dict.fromkeys(range(5000))).encode(),
        json.dumps({"a": [[]] * 10_000}).encode(),
        b"9" * (MAX_STRUCTURE + 1),
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'""' * 500_000,
        b"\\" * 100_000,
    ],
    ids=["fields", "lists", "digits", "depth", "objects", "strings", "not JSON"],
)
async def test_much_that_is_not_text_gets_400(served: Client, body: bytes) -> None:
    assert await status_of(served, body) == 400


async def test_string_without_an_end_is_read_once(served: Client) -> None:
    assert await status_of(served, b'"a\\' * 300_000) == 200
    assert await status_of(served, b'"') == 200


async def test_other_content_types_get_415(served: Client) -> None:
    assert await status_of(served, b"{}", "text/plain") == 415
    assert await status_of(served, b"{}", "application/json; charset=utf-8") == 200
