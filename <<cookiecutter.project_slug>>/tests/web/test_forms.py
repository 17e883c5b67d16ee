import asyncio
import io

import pytest
from aiohttp import FormData, hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import expect
from package_name.web.forms import read_form

from ..helpers import Client


# % endfilter
async def form(request: web.Request) -> web.Response:
    return web.json_response(await read_form(request))


async def careful(request: web.Request) -> web.Response:
    """Take no more than three bytes, and say so before they are sent."""
    if (request.content_length or 0) > 3:
        raise web.HTTPRequestEntityTooLarge(3)
    await expect.proceed(request)
    return web.Response(body=await request.read())


@pytest.fixture
async def forms(aiohttp_client: AiohttpClient) -> Client:
    app = create_app()
    app.router.add_post("/form", form)
    app.router.add_post("/careful", careful, expect_handler=expect.wait)
    return await aiohttp_client(app)


async def test_the_fields_of_a_form(forms: Client) -> None:
    async with forms.post("/form", data={"name": "ä & b", "empty": ""}) as response:
        assert await response.json() == {"name": "ä & b", "empty": ""}


URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        (f"{URLENCODED}; charset=nonsense", b"name=a", 415),
        (f"{URLENCODED}; charset=punycode", b"name=a-aaaa", 415),  # slower than its length
        (f"{URLENCODED}; charset=unicode_escape", b"name=\\ud800", 415),  # a lone surrogate
        (f"{URLENCODED}; charset=UTF-8", b"name=a", 200),
        (URLENCODED, b"name=\xff", 400),
        (URLENCODED, b"name=%ff", 200),
        (URLENCODED, b"", 200),
        (URLENCODED, b"&".join(b"a=b" for _ in range(2000)), 413),
        (URLENCODED, b"name=" + b"x" * 1024**2, 413),
    ],
)
async def test_forms_that_are_none(
    forms: Client, content_type: str, body: bytes, status: int
) -> None:
    headers = {hdrs.CONTENT_TYPE: content_type}
    async with forms.post("/form", data=io.BytesIO(body), headers=headers) as response:
        assert response.status == status


async def test_files_are_no_fields(forms: Client) -> None:
    data = FormData({"name": "a"})
    data.add_field("file", io.BytesIO(b"x"), filename="a.txt")
    async with forms.post("/form", data=data) as response:
        assert response.status == 415


@pytest.mark.parametrize(
    ("expected", "length", "first"),
    [
        ("100-continue", 3, b"HTTP/1.1 100 Continue"),
        ("100-Continue", 3, b"HTTP/1.1 100 Continue"),
        ("100-continue", 4, b"HTTP/1.1 413 "),
        ("miracles", 3, b"HTTP/1.1 417 "),
    ],
)
async def test_a_body_is_asked_for_or_refused_before_it_is_sent(
    forms: Client, expected: str, length: int, first: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", forms.port)
    head = f"POST /careful HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: {expected}"
    writer.write(f"{head}\r\nContent-Length: {length}\r\n\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(first)
    if first.endswith(b"Continue"):
        writer.write(b"abc")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert (await reader.read()).endswith(b"abc")
    writer.close()
