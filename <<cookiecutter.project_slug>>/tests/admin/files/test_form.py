"""Forms with more data than the file in them."""

import io
from collections.abc import AsyncIterator

import pytest
from aiohttp import hdrs
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin.files.form import MAX_HEADER, OVERHEAD

from ...helpers import Client
from ..helpers import signed_in
from .test_views import BOUNDARY, PART, kept, wait_for_cleanup

# % endfilter
END = b"\r\n--b--\r\n"
MEBIBYTE = 1024**2


@pytest.fixture
async def small(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Return a client that may upload 1 MiB."""
    monkeypatch.setenv("MAX_UPLOAD_SIZE", "1MiB")
    return await signed_in(aiohttp_client)


async def in_chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        for start in range(0, len(part), 65536):
            yield part[start : start + 65536]


async def upload(client: Client, *parts: bytes, chunked: bool) -> int:
    body = in_chunks(*parts) if chunked else io.BytesIO(b"".join(parts))
    headers = {hdrs.CONTENT_TYPE: BOUNDARY}
    async with client.post("/admin/files/", data=body, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with length"])
@pytest.mark.parametrize(
    "parts",
    [
        (b"x" * 2 * MEBIBYTE + b"\r\n", PART, END),
        (b"\n" * 2 * MEBIBYTE, PART, END),
        (b"--c\r\n" * (MEBIBYTE // 2), PART, END),
        (PART, END, b"x" * 2 * MEBIBYTE),
        (PART, END, b"\n" * 2 * MEBIBYTE),
        (PART, END, b"\n\n", b"x" * 2 * MEBIBYTE),
        (PART, b"x" * (MEBIBYTE - 1), END, b"\n\n", b"x" * 2 * OVERHEAD),
        (PART, b"x" * MEBIBYTE, END),
    ],
    ids=[
        *("preamble", "lines before", "almost boundaries before", "epilogue", "lines after"),
        *("more after", "file and more after", "file"),
    ],
)
async def test_body_over_the_limit_is_413(
    small: Client, parts: tuple[bytes, ...], chunked: bool
) -> None:
    assert await upload(small, *parts, chunked=chunked) == 413
    assert kept() == []
    await wait_for_cleanup()


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with length"])
@pytest.mark.parametrize(
    "parts",
    [
        (b"a preamble\r\n", PART, b"x" * (MEBIBYTE - 1), END),
        (PART, b"x" * (MEBIBYTE - 1), END, b"\n\n", b"x" * (OVERHEAD // 2)),
    ],
    ids=["preamble", "epilogue"],
)
async def test_largest_file_with_a_little_around_it_is_kept(
    small: Client, parts: tuple[bytes, ...], chunked: bool
) -> None:
    assert await upload(small, *parts, chunked=chunked) == 201


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"A: " + b"b" * (MAX_HEADER - 10), 201),
        (b"A: " + b"b" * MAX_HEADER, 413),
        (b"\r\n".join([b"A: b"] * 100), 201),
        (b"\r\n".join([b"A: " + b"b" * 1000] * 20), 413),
    ],
    ids=["long", "too long", "many", "too many"],
)
async def test_headers_of_a_part_are_limited(small: Client, header: bytes, status: int) -> None:
    part = PART.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")
    assert await upload(small, part, END, chunked=False) == status


async def test_many_lines_around_a_file_are_413(small: Client) -> None:
    """aiohttp needs as long for each line as for hundreds of bytes."""
    assert await upload(small, b"\n" * 1000, PART, END, chunked=False) == 413


@pytest.mark.parametrize("charset", [b"x" * 40, b"\xff", b"none"])
async def test_malformed_default_charset_is_400(small: Client, charset: bytes) -> None:
    field = b'--b\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n' + charset
    assert await upload(small, field + b"\r\n--b--\r\n", chunked=False) == 400
