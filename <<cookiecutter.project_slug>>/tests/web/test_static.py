import asyncio
import base64
import gzip
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import brotli
import pytest
from aiohttp import hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web import static
from package_name.web.headers import CSP
from package_name.web.precompress import precompress

from ..helpers import Client

# % endfilter
IMMUTABLE = "public, max-age=31536000, immutable"
CSS = b"body { color: rebeccapurple }\n" * 50


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("not for you")
    directory = tmp_path / "static"
    (directory / "sub").mkdir(parents=True)
    (directory / "site.css").write_bytes(CSS)
    (directory / "out").symlink_to(tmp_path / "secret")
    (directory / "loop").symlink_to("loop")
    (directory / "data.unknown").write_bytes(b"\0")
    return directory


@pytest.fixture
async def files(aiohttp_client: AiohttpClient, directory: Path) -> Client:
    app = web.Application()
    static.setup(app, directory)
    return await aiohttp_client(app, auto_decompress=False)


@contextmanager
def searchable_by_nobody(directory: Path) -> Iterator[None]:
    """Remove access to a directory; as root, drop the privileges for a while."""
    mode, user = directory.stat().st_mode, os.geteuid()
    directory.chmod(0)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        directory.chmod(mode)


def resource(client: Client) -> static.StaticFiles:
    assert client.app
    return client.app[static.STATIC]


async def test_current_version_may_be_cached_for_good(files: Client) -> None:
    url = resource(files).versioned_url("site.css")
    digest = base64.urlsafe_b64encode(hashlib.sha256(CSS).digest()).decode()
    assert resource(files).url_for(filename="/site.css").query["v"] == digest
    async with files.get(url) as response:
        assert await response.read() == CSS
        assert response.headers[hdrs.CACHE_CONTROL] == IMMUTABLE
        assert response.headers[hdrs.CONTENT_TYPE] == "text/css; charset=utf-8"


@pytest.mark.parametrize("query", ["", "?v=", "?v=wrong"])
async def test_missing_or_wrong_version_is_revalidated(files: Client, query: str) -> None:
    async with files.get("/static/site.css" + query) as response:
        assert response.status == 200
        assert response.headers[hdrs.CACHE_CONTROL] == "no-cache"
        etag = response.headers[hdrs.ETAG]
    async with files.get("/static/site.css" + query, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
        assert response.headers[hdrs.CACHE_CONTROL] == "no-cache"
        assert CSP not in response.headers  # the policy of the cached page stays in effect


async def test_file_is_read_once_and_again_only_after_a_change(
    files: Client, directory: Path, advance: Callable[[float], None]
) -> None:
    opened = []
    watching = True

    def audit(event: str, args: tuple[object, ...]) -> None:
        if watching and event == "open" and str(args[0]).endswith("site.css"):
            opened.append(args[0])

    sys.addaudithook(audit)
    path = directory / "site.css"
    first = resource(files).versioned_url("site.css")
    assert len(opened) == 1
    for _ in range(100):
        assert resource(files).versioned_url("site.css") == first
    assert len(opened) == 1
    path.write_bytes(CSS + b"/**/")
    advance(static.RECHECK)
    opened.clear()
    assert resource(files).versioned_url("site.css") != first
    assert len(opened) == 1
    watching = False
    async with files.get(first) as response:
        assert response.headers[hdrs.CACHE_CONTROL] == "no-cache"


@pytest.mark.parametrize("name", ["missing.css", "../secret", "out", "sub", "nul\0"])
async def test_name_outside_the_directory_has_neither_version_nor_integrity(
    files: Client, name: str
) -> None:
    assert "v" not in resource(files).url_for(filename=name).query
    assert resource(files).integrity(name) == ""


def test_integrity_is_the_sha256_of_the_file(directory: Path) -> None:
    files = static.StaticFiles("/static", directory, name="static")
    digest = base64.b64encode(hashlib.sha256(CSS).digest()).decode()
    assert files.integrity("site.css") == f"sha256-{digest}"


def test_url_has_no_version_of_a_missing_file_or_on_request(directory: Path) -> None:
    files = static.StaticFiles("/static", directory, name="static")
    assert files.versioned_url("missing.css") == "/static/missing.css"
    assert str(files.url_for(filename="site.css", append_version=False)) == "/static/site.css"


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/sub",
        "/static/missing",
        "/static/out",
        "/static/loop",
        "/static/site.css/x",
        "/static/..%2Fsecret",
        "/static/%2e%2e/secret",
        "/static/sub/..%2f..%2fsecret",
        "/static//etc/passwd",
        "/static/%2Fetc%2Fpasswd",
        "/static/nul%00",
        "/static/" + "x" * 300,
    ],
)
async def test_path_outside_the_directory_gets_404(files: Client, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", files.server.port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert b" 404 " in answer.splitlines()[0]
    assert b"not for you" not in answer


async def test_directory_that_may_not_be_searched_is_500(files: Client, directory: Path) -> None:
    async with files.get("/static/site.css") as response:  # on a connection that stays open
        assert response.status == 200
    with searchable_by_nobody(directory):
        async with files.get("/static/site.css") as response:
            assert response.status == 500


async def test_unknown_file_type_is_octet_stream(files: Client) -> None:
    async with files.get("/static/data.unknown") as response:
        assert response.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        ("gzip, br", "br"),
        ("gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("*", "br"),
        ("*;q=0", None),
        ("identity", None),
        ("br;q=0, gzip;q=0", None),
    ],
)
async def test_compressed_copy_is_sent_if_accepted(
    files: Client, directory: Path, accept_encoding: str, coding: str | None
) -> None:
    written = precompress(directory)
    assert {path.name for path in written} == {"site.css.br", "site.css.gz"}
    url = resource(files).versioned_url("site.css")
    async with files.get(url, headers={hdrs.ACCEPT_ENCODING: accept_encoding}) as response:
        assert response.headers.get(hdrs.CONTENT_ENCODING) == coding
        assert response.headers[hdrs.VARY] == hdrs.ACCEPT_ENCODING
        assert response.headers[hdrs.CONTENT_TYPE] == "text/css; charset=utf-8"
        assert response.headers[hdrs.CACHE_CONTROL] == IMMUTABLE
        body = await response.read()
    decompress = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}[coding]
    assert decompress(body) == CSS


@pytest.mark.parametrize("age", [-3600, 0, 3600])
async def test_outdated_compressed_copy_is_not_sent_whatever_its_mtime(
    files: Client, directory: Path, age: int
) -> None:
    precompress(directory)
    path = directory / "site.css"
    for contents, coding in ((CSS, "br"), (CSS + b"p { color: red }", None), (CSS, "br")):
        path.write_bytes(contents)
        date = (directory / "site.css.br").stat().st_mtime + age
        os.utime(path, (date, date))
        url = resource(files).url_for(filename="site.css")
        async with files.get(url, headers={hdrs.ACCEPT_ENCODING: "br"}) as response:
            assert response.headers.get(hdrs.CONTENT_ENCODING) == coding
            body = await response.read()
        assert (brotli.decompress(body) if coding else body) == contents


@pytest.mark.parametrize("suffix", [".br", ".gz"])
async def test_corrupt_compressed_copy_is_not_sent(
    files: Client, directory: Path, suffix: str
) -> None:
    (directory / f"site.css{suffix}").write_bytes(b"not compressed")
    async with files.get("/static/site.css", headers={hdrs.ACCEPT_ENCODING: "*"}) as response:
        assert await response.read() == CSS


async def test_compressed_copy_that_is_a_symlink_is_not_sent(
    files: Client, directory: Path
) -> None:
    (directory / "site.css.br").symlink_to(directory.parent / "secret")
    async with files.get("/static/site.css", headers={hdrs.ACCEPT_ENCODING: "br"}) as response:
        assert await response.read() == CSS
