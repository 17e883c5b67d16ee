import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, hdrs, web
from multidict import CIMultiDict
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web.files import CHUNK, send_file
from package_name.web.precompress import precompress
from package_name.web.static import setup

from ..helpers import Client, no_file_descriptors
from .preconditions import CASES, SIZE, Case

# % endfilter
CONTENT = os.urandom(SIZE)
Headers = Mapping[str, str] | Sequence[tuple[str, str]]
Answer = tuple[int, Mapping[str, str], bytes]
Ask = Callable[..., Awaitable[Answer]]
Write = Callable[[bytes], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    date = time.time() - 10
    os.utime(path, (date, date))
    return path


@pytest.fixture
def write(path: Path) -> Write:
    """Return a function that changes the file and sets its mtime a second later."""

    def write(content: bytes) -> None:
        date = path.stat().st_mtime + 1
        path.write_bytes(content)
        os.utime(path, (date, date))

    return write


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, path: Path) -> Client:
    """Return a client of an application that sends the file at /file."""

    async def send(request: web.Request) -> web.StreamResponse:
        return await send_file(request, path, {hdrs.CACHE_CONTROL: "private", "X-Header": "x"})

    app = create_app()
    app.router.add_get("/file", send)
    return await aiohttp_client(app)


@pytest.fixture
def ask(client: Client) -> Ask:
    async def ask(method: str = "GET", headers: Headers = ()) -> Answer:
        async with client.request(method, "/file", headers=CIMultiDict(headers)) as response:
            return response.status, response.headers, await response.read()

    return ask


async def test_ranges_and_conditions_follow_rfc_9110(ask: Ask) -> None:
    for case in CASES:
        await assert_follows(ask, case)


async def assert_follows(ask: Ask, case: Case) -> None:
    _, headers, _ = await ask()
    etag, date = headers[hdrs.ETAG], headers[hdrs.LAST_MODIFIED]
    given = {name: value.format(etag=etag, date=date) for name, value in case.headers.items()}
    status, headers, body = await ask(case.method, given)
    assert (case, status) == (case, case.status)
    start, stop, _ = case.part.indices(SIZE)
    content_range = {206: f"bytes {start}-{stop - 1}/{SIZE}", 416: f"bytes */{SIZE}"}.get(status)
    assert headers.get(hdrs.CONTENT_RANGE) == content_range
    if status in {200, 206}:
        assert headers[hdrs.CONTENT_LENGTH] == str(stop - start)
        assert body == (CONTENT[case.part] if case.method == "GET" else b"")
        assert headers[hdrs.ACCEPT_RANGES] == "bytes"
    if status < 400:
        assert headers[hdrs.ETAG] == etag
        assert headers[hdrs.LAST_MODIFIED] == date
        assert headers[hdrs.CACHE_CONTROL] == "private"
    if status == 304:
        assert body == b""
        assert "X-Header" not in headers
    if status >= 400:
        assert headers[hdrs.CONTENT_TYPE].startswith("application/problem+json")


@pytest.mark.parametrize("validator", [hdrs.ETAG, hdrs.LAST_MODIFIED])
async def test_resumed_download_of_a_changed_file_starts_over(
    ask: Ask, write: Write, validator: str
) -> None:
    _, headers, _ = await ask()
    resume = {hdrs.RANGE: "bytes=500-", hdrs.IF_RANGE: headers[validator]}
    status, _, body = await ask(headers=resume)
    assert (status, body) == (206, CONTENT[500:])
    changed = os.urandom(SIZE)
    write(changed)
    status, headers, body = await ask(headers=resume)
    assert (status, body) == (200, changed)
    assert headers[validator] != resume[hdrs.IF_RANGE]


async def test_date_in_if_range_has_to_be_older_than_a_second_and_in_gmt(
    ask: Ask, path: Path
) -> None:
    _, headers, _ = await ask()
    part = {hdrs.RANGE: "bytes=0-9"}
    date = headers[hdrs.LAST_MODIFIED]
    assert (await ask(headers=part | {hdrs.IF_RANGE: date}))[0] == 206
    for other in (date.replace("GMT", "+0000"), date.replace(" GMT", "")):
        assert (await ask(headers=part | {hdrs.IF_RANGE: other}))[0] == 200
    later = time.time() + 1  # so that the second does not end in the meantime
    os.utime(path, (later, later))
    _, headers, _ = await ask()
    for validator, status in ((hdrs.LAST_MODIFIED, 200), (hdrs.ETAG, 206)):
        assert (await ask(headers=part | {hdrs.IF_RANGE: headers[validator]}))[0] == status


async def test_conditions_may_be_spread_over_several_lines(ask: Ask) -> None:
    _, headers, _ = await ask()
    etag, date = headers[hdrs.ETAG], headers[hdrs.LAST_MODIFIED]
    for name, status in ((hdrs.IF_NONE_MATCH, 304), (hdrs.IF_MATCH, 200)):
        assert (await ask(headers=[(name, '"other"'), (name, etag)]))[0] == status
    # A header that is not a list is ignored if it is repeated.
    for name in (hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE, hdrs.RANGE):
        assert (await ask(headers=[(name, date), (name, date)]))[0] == 200
    part = [(hdrs.RANGE, "bytes=0-9"), (hdrs.IF_RANGE, etag), (hdrs.IF_RANGE, etag)]
    assert (await ask(headers=part))[0] == 200


@pytest.mark.parametrize(
    ("value", "status"), [("bytes=0-", 200), ("bytes=-5", 200), ("bytes=5-", 416)]
)
async def test_empty_file_has_no_parts(ask: Ask, write: Write, value: str, status: int) -> None:
    write(b"")
    found, headers, body = await ask(headers={hdrs.RANGE: value})
    assert found == status
    if status == 200:
        assert (headers[hdrs.CONTENT_LENGTH], body) == ("0", b"")
    else:
        assert headers[hdrs.CONTENT_RANGE] == "bytes */0"


async def test_large_file_is_sent_whole_and_in_part(ask: Ask, write: Write) -> None:
    large = os.urandom(3 * CHUNK + 1)
    write(large)
    assert (await ask())[2] == large
    part = {hdrs.RANGE: f"bytes={CHUNK - 1}-{2 * CHUNK}"}
    assert (await ask(headers=part))[2] == large[CHUNK - 1 : 2 * CHUNK + 1]


async def test_missing_file_is_404(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "file").unlink()
    assert (await ask())[0] == 404


async def test_file_that_cannot_be_opened_is_500_and_logged(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    await ask()  # on a connection that stays open
    with no_file_descriptors():
        assert (await ask())[0] == 500
    assert (await ask())[0] == 200
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info
    assert "Too many open files" in str(record.exc_info[1])


async def test_file_that_becomes_shorter_while_it_is_sent_cuts_the_connection(
    client: Client, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(path, 100 * 1024**2)  # exceeds the buffers of sockets
    async with client.get("/file") as response:
        assert response.status == 200
        os.truncate(path, CHUNK)
        with pytest.raises((ClientPayloadError, ClientConnectionError)):
            await response.read()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info
    assert "became shorter" in str(record.exc_info[1])


@pytest.fixture
def copies(tmp_path: Path) -> dict[str, bytes]:
    """Return the compressed copies of a static file by suffix; all have the same mtime."""
    (tmp_path / "site.css").write_bytes(b"body { color: rebeccapurple }\n" * 50)
    copies = {path.suffix: path.read_bytes() for path in precompress(tmp_path)}
    for file in tmp_path.iterdir():
        os.utime(file, (1, 1))
    return copies


@pytest.mark.parametrize(("coding", "suffix"), [("br", ".br"), ("gzip", ".gz")])
async def test_parts_of_a_compressed_copy_have_its_own_etag(
    aiohttp_client: AiohttpClient,
    copies: dict[str, bytes],
    tmp_path: Path,
    coding: str,
    suffix: str,
) -> None:
    app, copy = web.Application(), copies[suffix]
    setup(app, tmp_path)
    client = await aiohttp_client(app, auto_decompress=False)
    url, accept = "/static/site.css", {hdrs.ACCEPT_ENCODING: coding}
    async with client.get(url, headers={hdrs.ACCEPT_ENCODING: "identity"}) as response:
        plain = response.headers[hdrs.ETAG]
    async with client.get(url, headers=accept) as response:
        tag = response.headers[hdrs.ETAG]
        assert await response.read() == copy
    assert tag != plain
    assert tag.endswith(f'-{coding}"')  # different even for equal mtimes and sizes
    part = accept | {hdrs.RANGE: "bytes=10-19"}
    async with client.get(url, headers=part | {hdrs.IF_RANGE: tag}) as response:
        assert response.status == 206
        assert response.headers[hdrs.CONTENT_RANGE] == f"bytes 10-19/{len(copy)}"
        assert response.headers[hdrs.CONTENT_ENCODING] == coding
        assert response.headers[hdrs.VARY] == hdrs.ACCEPT_ENCODING
        assert await response.read() == copy[10:20]
    async with client.get(url, headers=part | {hdrs.IF_RANGE: plain}) as response:
        assert response.status == 200
        assert await response.read() == copy
    for known, status in ((tag, 304), (plain, 200)):
        async with client.get(url, headers=accept | {hdrs.IF_NONE_MATCH: known}) as response:
            assert response.status == status
            assert response.headers[hdrs.VARY] == hdrs.ACCEPT_ENCODING
