import asyncio
import errno
import io
import logging
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from aiohttp import FormData, hdrs
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin.files import store, views

from ...helpers import TIMEOUT, Client, own, until
from ..helpers import signed_in

# % endfilter
HTML = {hdrs.ACCEPT: "text/html"}
FILES = Path("uploads")
"""Default folder of uploads, below the test's own folder."""
BOUNDARY = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx'


def form(content: bytes = b"content", name: str = "a.txt", field: str = "file") -> FormData:
    data = FormData(quote_fields=False)
    data.add_field(field, io.BytesIO(content), filename=name)
    return data


async def upload(client: Client, content: bytes = b"content", name: str = "a.txt") -> Any:
    async with client.post("/admin/files/", data=form(content, name)) as response:
        assert response.status == 201
        return await response.json()


def kept() -> list[Path]:
    return sorted((FILES / "files").iterdir())


async def wait_for_cleanup() -> None:
    await until(lambda: not list((FILES / "incoming").iterdir()))


async def test_api_client_uploads_and_downloads(admin: Client) -> None:
    content = os.urandom(3_000_000)
    async with admin.post("/admin/files/", data=form(content, "ä.bin")) as response:
        assert response.status == 201
        record = await response.json()
        location = response.headers[hdrs.LOCATION]
    assert (record["name"], record["size"], record["account"]) == ("ä.bin", 3_000_000, "ada")
    async with admin.get(location) as response:
        assert await response.read() == content
        assert response.headers[hdrs.CONTENT_DISPOSITION].endswith("''%C3%A4.bin")
    async with admin.get(location, headers={hdrs.RANGE: "bytes=10-19"}) as response:
        assert response.status == 206
        assert await response.read() == content[10:20]
    (folder,) = kept()
    assert sorted(path.name for path in folder.iterdir()) == ["content", "record.json"]
    assert not list((FILES / "incoming").iterdir())


async def test_browser_uploads_lists_and_deletes(admin: Client) -> None:
    async with admin.get("/admin/files/") as response:
        page = await response.text()
        assert "There are no files yet" in page
        assert "up to 100.0 MiB" in page
        nonce = page.partition('<script nonce="')[2].partition('"')[0]
        assert f"'nonce-{nonce}'" in response.headers["Content-Security-Policy"]
    async with admin.post("/admin/files/", data=form(name="<b>.txt"), headers=HTML) as response:
        assert response.url.path == "/admin/files/"
        page = await response.text()
    assert "b.txt</a>" in page
    (delete,) = re.findall(r'action="(/admin/files/[0-9a-f]{32}/delete)"', page)
    async with admin.get(delete) as response:
        assert response.status == 405
    async with admin.post(delete, headers=HTML) as response:
        assert response.url.path == "/admin/files/"
        assert "There are no files yet" in await response.text()
    assert kept() == []
    async with admin.post(delete) as response:
        assert response.status == 404


@pytest.mark.parametrize("name", ["page.html", "picture.svg", "script.js", "packed.gz"])
async def test_download_is_never_rendered_by_the_browser(admin: Client, name: str) -> None:
    record = await upload(admin, b"<script>alert(1)</script>", name)
    async with admin.get(f"/admin/files/{record['id']}", headers=HTML) as response:
        assert response.content_type == "application/octet-stream"
        assert response.headers[hdrs.CONTENT_DISPOSITION].startswith("attachment;")
        assert response.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers[hdrs.CACHE_CONTROL] == "private, no-cache"
        assert hdrs.CONTENT_ENCODING not in response.headers


async def test_files_with_the_same_name_are_kept_apart(admin: Client) -> None:
    first, second = await upload(admin, b"1"), await upload(admin, b"2")
    for record, content in ((first, b"1"), (second, b"2")):
        async with admin.get(f"/admin/files/{record['id']}") as response:
            assert await response.read() == content


async def test_list_has_pages(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PAGE_SIZE", 2)
    for number in range(5):
        await upload(admin, name=f"{number}.txt")
    older, seen = ["/admin/files/"], []
    while older:
        async with admin.get(older[0]) as response:
            page = await response.text()
        seen.append(re.findall(r">(\d)\.txt</a>", page))
        older = re.findall(r'<a href="(.+)">Older files', page)
    assert seen == [["4", "3"], ["2", "1"], ["0"]]


@pytest.mark.parametrize("path", ["0" * 32, "0" * 31, "x" * 32, "0" * 32 + "/x"])
async def test_unknown_file_is_404(admin: Client, path: str) -> None:
    async with admin.get(f"/admin/files/{path}", allow_redirects=False) as response:
        assert response.status == 404


async def test_upload_that_is_too_large_is_413(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_UPLOAD_SIZE", "1MiB")
    client = await signed_in(aiohttp_client)
    assert (await upload(client, b"x" * 1024**2))["size"] == 1024**2
    large = b"x" * (1024**2 + 1)
    async with client.post("/admin/files/", data=form(large)) as response:
        assert response.status == 413

    async def stream() -> AsyncIterator[bytes]:
        yield PART
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]
        yield b"\r\n--b--\r\n"

    headers = {hdrs.CONTENT_TYPE: BOUNDARY}
    async with client.post("/admin/files/", data=stream(), headers=headers) as response:
        assert response.status == 413  # although the request had no Content-Length
    assert len(kept()) == 1
    await wait_for_cleanup()


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/octet-stream", b"x", 415),
        ("multipart/form-data", b"x", 400),
        (f"multipart/form-data; boundary={'b' * 71}", b"x", 400),
        (BOUNDARY, b"", 400),
        (BOUNDARY, b"no parts", 400),
        (BOUNDARY, PART, 400),
        (BOUNDARY, PART + b"\r\n--b", 400),
        (BOUNDARY, PART + b"\r\n" + PART + b"\r\n--b--\r\n", 400),
        (BOUNDARY, PART.replace(b"; filename=", b"; x=") + b"\r\n--b--\r\n", 400),
        (BOUNDARY, PART.replace(b'"file"', b'"other"') + b"\r\n--b--\r\n", 400),
        (BOUNDARY, PART.replace(b'"a"', b'""') + b"\r\n--b--\r\n", 400),
        (BOUNDARY, b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n", 400),
        (BOUNDARY, b"--b\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n--b--\r\n", 400),
        (BOUNDARY, b"--b\r\n" + b"A: b\r\n" * 200 + b"\r\nx\r\n--b--\r\n", 400),
        (BOUNDARY, PART + b"\r\n--b--\r\n", 201),
    ],
)
async def test_form_that_is_not_one_file_is_refused(
    admin: Client, content_type: str, body: bytes, status: int
) -> None:
    headers = {hdrs.CONTENT_TYPE: content_type}
    async with admin.post("/admin/files/", data=body, headers=headers) as response:
        assert response.status == status, await response.text()
        if status == 400:
            assert "Send one file" in (await response.json())["detail"]
    assert len(kept()) == (status == 201)
    await wait_for_cleanup()


async def head_of_upload(client: Client, **changed: str | None) -> bytes:
    """Return the head of a request that waits for 100 Continue before it sends the body."""
    (cookie,) = client.session.cookie_jar
    headers = {
        "Host": f"127.0.0.1:{client.port}",
        "Cookie": f"session={cookie.value}",
        "Content-Type": BOUNDARY,
        "Content-Length": str(len(PART + b"\r\n--b--\r\n")),
        "Expect": "100-continue",
        "Connection": "close",
        **own(client),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join(["POST /admin/files/ HTTP/1.1", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Cookie": None}, b"401"),
        ({"Origin": "https://evil.example"}, b"403"),
        ({"Content_Length": str(101 * 1024**2)}, b"413"),
        ({"Content_Type": "text/plain"}, b"415"),
        ({"Expect": "miracles"}, b"417"),
        ({"Host": "evil.example"}, b"421"),
        ({}, b"100"),
    ],
)
async def test_expect_100_continue_is_answered_before_the_body_is_sent(
    admin: Client, changed: dict[str, str | None], status: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    writer.write(await head_of_upload(admin, **changed))
    first = await reader.readuntil(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 " + status)
    if status == b"100":
        writer.write(PART + b"\r\n--b--\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
    writer.close()


async def test_http_1_0_client_is_not_sent_100_continue(admin: Client) -> None:
    """HTTP/1.0 does not define Expect."""
    head = (await head_of_upload(admin)).replace(b"HTTP/1.1", b"HTTP/1.0")
    reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    writer.write(head + PART + b"\r\n--b--\r\n")
    assert b" 201 " in await reader.readline()
    writer.close()


async def test_interrupted_upload_leaves_nothing(admin: Client) -> None:
    head = await head_of_upload(admin, Expect=None, Content_Length=str(10**6))
    _, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    writer.write(head + PART + b"x" * 300_000)
    await until(lambda: list((FILES / "incoming").glob("*/content")))
    writer.close()
    await wait_for_cleanup()
    assert kept() == []


async def test_complete_upload_is_kept_when_the_client_leaves(
    admin: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reached, opened = Event(), Event()
    fsync = os.fsync

    def held_up(descriptor: int) -> None:
        reached.set()
        assert opened.wait(TIMEOUT)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", held_up)
    _, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    writer.write(await head_of_upload(admin, Expect=None) + PART + b"\r\n--b--\r\n")
    await until(reached.is_set)
    writer.close()
    await until(lambda: "cancelled: POST /admin/files/" in caplog.text)
    opened.set()
    await until(lambda: "uploaded" in caplog.text)
    (folder,) = kept()
    assert store.Store(FILES).find(folder.name).size == 1
    await wait_for_cleanup()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("step", ["open", "write", "keep"])
async def test_disk_error_leaves_nothing_and_a_full_disk_is_507(
    admin: Client, monkeypatch: pytest.MonkeyPatch, step: str, error: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    if step == "keep":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        original = getattr(store.Upload, step)
        monkeypatch.setattr(store.Upload, step, lambda *given: fail(original(*given)))
    async with admin.post("/admin/files/", data=form()) as response:
        assert response.status == (507 if error == errno.ENOSPC else 500)
    assert kept() == []
    await wait_for_cleanup()


async def test_download_through_nginx_is_an_x_accel_redirect(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_REDIRECT", "/_files/")
    for proxies in ("127.0.0.1", ""):
        monkeypatch.setenv("TRUSTED_PROXIES", proxies)
        client = await signed_in(aiohttp_client)
        record = await upload(client)
        async with client.get(f"/admin/files/{record['id']}") as response:
            assert response.headers[hdrs.CONTENT_DISPOSITION].startswith("attachment;")
            body = await response.read()
            location = response.headers.get("X-Accel-Redirect")
        if proxies:
            assert (body, location) == (b"", f"/_files/{record['id']}/content")
        else:  # without nginx, nothing handles the header
            assert (body, location) == (b"content", None)
