import gzip
from email.parser import HeaderParser
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError, hdrs
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web import head as web_head

from ..helpers import Client, own
from .helpers import echo_app, raw_status

# % endfilter
PATHS = ["/echo", "/nested/echo", "/nowhere", "/static/site.css", "/admin/login", "/livez"]


@pytest.fixture
async def served(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(echo_app())


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "x", "identity, gzip", ",x"])
async def test_request_with_a_content_coding_gets_415(served: Client, coding: str) -> None:
    headers = own(served) | {hdrs.CONTENT_ENCODING: coding}
    for path in PATHS:
        async with served.post(path, data=b"x", headers=headers, compress=False) as response:
            assert (path, response.status) == (path, 415)
            assert response.headers[hdrs.ACCEPT_ENCODING] == "identity"


async def test_second_content_coding_gets_415(served: Client) -> None:
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: identity\r\n"
    assert await raw_status(served, head + b"Content-Encoding: gzip\r\n\r\n") == 415


async def test_websocket_handshake_with_a_content_coding_gets_415(served: Client) -> None:
    headers = own(served) | {hdrs.CONTENT_ENCODING: "gzip"}
    with pytest.raises(WSServerHandshakeError) as error:
        await served.ws_connect("/websocket", headers=headers)
    assert error.value.status == 415


@pytest.mark.parametrize("coding", ["identity", "Identity , identity", "", " , "])
async def test_body_without_a_content_coding_is_read(served: Client, coding: str) -> None:
    headers = own(served) | {hdrs.CONTENT_ENCODING: coding}
    async with served.post("/echo", data=b"x", headers=headers) as response:
        assert await response.read() == b"x"


async def test_compressed_body_is_not_decompressed(aiohttp_client: AiohttpClient) -> None:
    """It stays compressed even without the middleware that refuses it."""
    app = echo_app()
    app.middlewares.remove(web_head.head_middleware)
    client = await aiohttp_client(app)
    sent = gzip.compress(b"x" * 1000)
    headers = own(client) | {hdrs.CONTENT_ENCODING: "gzip"}
    async with client.post("/echo", data=sent, headers=headers) as response:
        assert await response.read() == sent


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"x,chunked", b"identity, chunked"])
async def test_unknown_transfer_coding_gets_501(served: Client, coding: bytes) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: %b\r\n\r\n" % coding
    assert await raw_status(served, head + b"1\r\nx\r\n0\r\n\r\n") == 501


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "text/html;charset=utf-8",
        'Text/HTML ; Charset="utf-8" ;',
        "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        'multipart/form-data; boundary="===============12 (3)=="',
        "multipart/mixed; boundary=a:b/c?d",
        "application/vnd.api+json",
    ],
)
async def test_media_type_is_accepted(served: Client, media_type: str) -> None:
    headers = own(served) | {hdrs.CONTENT_TYPE: media_type}
    async with served.post("/echo", data=b"x", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "media_type",
    [
        *("", "text", "text/", "/plain", "text/plain text", "text/plain, text/html", "text/ä"),
        *("text/plain; a", "text/plain; =b", 'text/plain; a="', 'text/plain; a="b"c', "a/b; c=(d"),
        "text/plain" + ";" * 8000,
        'text/plain; a="' + ";" * 8000,
        "text/plain; a=" + '"' * 8000,
        "text/plain" + "(" * 8000,
        "text/plain;" + " ;" * 4000 + "(",
        "text/plain; a=" + "x" * web_head.MAX_MEDIA_TYPE,
    ],
)
async def test_malformed_media_type_gets_415_and_is_not_parsed(
    served: Client, monkeypatch: pytest.MonkeyPatch, media_type: str
) -> None:
    parsed: list[str] = []
    parsestr = HeaderParser.parsestr

    def parse(parser: HeaderParser, text: str, *options: Any) -> Any:
        parsed.append(text)
        return parsestr(parser, text, *options)

    monkeypatch.setattr(HeaderParser, "parsestr", parse)
    headers = own(served) | {hdrs.CONTENT_TYPE: media_type}
    for path in ("/echo", "/nowhere", "/admin/login"):
        request = served.post(path, data=b"x", headers=headers, skip_auto_headers=["Accept"])
        async with request as response:
            assert (path, response.status) == (path, 415)
    assert f"Content-Type: {media_type}" not in parsed


@pytest.mark.parametrize("name", [hdrs.ACCEPT, hdrs.ORIGIN, hdrs.COOKIE, "X-Anything"])
async def test_headers_of_more_than_32_kib_get_431(served: Client, name: str) -> None:
    line = f"{name}: ".ljust(8000, "a") + "\r\n"
    for path in PATHS:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
        status = await raw_status(served, (head + line * 5 + "\r\n").encode())
        assert (path, status) == (path, 431)


async def test_headers_of_32_kib_are_accepted(served: Client) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
    line = b"X: ".ljust(8000, b"a") + b"\r\n"
    assert web_head.MAX_SIZE - 4 * len(line) > len(head)
    assert await raw_status(served, head + 4 * line + b"\r\n") == 200
