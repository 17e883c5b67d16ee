import asyncio

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import expect


# % endfilter
async def three_bytes(request: web.Request) -> web.Response:
    """Accept a body of at most three bytes, before the client sends it."""
    if (request.content_length or 0) > 3:
        raise web.HTTPRequestEntityTooLarge(3)
    await expect.proceed(request)
    return web.Response(body=await request.read())


@pytest.mark.parametrize(
    ("expected", "length", "first"),
    [
        ("100-continue", 3, b"HTTP/1.1 100 Continue"),
        ("100-Continue", 3, b"HTTP/1.1 100 Continue"),
        ("100-continue", 4, b"HTTP/1.1 413 "),
        ("miracles", 3, b"HTTP/1.1 417 "),
    ],
)
async def test_expectation_is_met_or_refused_before_the_body_is_sent(
    aiohttp_client: AiohttpClient, expected: str, length: int, first: bytes
) -> None:
    app = create_app()
    app.router.add_post("/", three_bytes, expect_handler=expect.wait)
    client = await aiohttp_client(app)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: {expected}"
    writer.write(f"{head}\r\nContent-Length: {length}\r\n\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(first)
    if first.endswith(b"Continue"):
        writer.write(b"abc")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert (await reader.read()).endswith(b"abc")
    writer.close()
