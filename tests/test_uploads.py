"""Uploads to the baked application as a process: large, refused, slow, cut off."""

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import (
    Project,
    Server,
    Site,
    client,
    gunicorn,
    serving,
    sign_in,
    standalone,
    wait_for,
)

KiB, MiB, GiB = 1024, 1024**2, 1024**3
BOUNDARY = "the-boundary"


@pytest.fixture(scope="module")
def site(
    installed: Project, account: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """One that takes 1 MiB at most."""
    folder = tmp_path_factory.mktemp("uploads")
    with serving(installed, folder, account, MAX_UPLOAD_SIZE="1MiB") as site:
        yield site


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with client() as http:
        yield http


def upload(http: httpx.Client, site: Site, content: bytes) -> httpx.Response:
    return http.post(f"{site.base}/admin/files/", files={"file": ("a.bin", content)})


def body(content: bytes) -> bytes:
    """Return a form with a file."""
    disposition = 'Content-Disposition: form-data; name="file"; filename="a.bin"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\n\r\n"
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def connected(site: Site, http: httpx.Client, size: int, more: str = "") -> socket.socket:
    """Return a connection on which the head of an upload was sent, with more headers."""
    head = (
        "POST /admin/files/ HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{site.port}\r\n"
        f"Origin: {site.base}\r\n"
        f"Cookie: session={http.cookies['session']}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {size}\r\n{more}\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", site.port))
    connection.sendall(head.encode())
    return connection


def curl(headers: dict[str, str], *arguments: str) -> list[str]:
    """Return the command that sends a request."""
    options = [part for name in headers for part in ("--header", f"{name}: {headers[name]}")]
    return ["curl", "--silent", "--noproxy", "*", "--max-time", "300", *options, *arguments]


@pytest.mark.parametrize(
    ("status", "size", "changed"),
    [
        (201, MiB, {}),
        (401, MiB, {"Cookie": ""}),
        (403, MiB, {"Origin": "http://evil.example"}),
        (413, 2 * MiB, {}),
        (415, MiB, {"Content-Type": "text/plain"}),
    ],
)
def test_uploads_are_refused_before_they_are_sent(
    status: int,
    size: int,
    changed: dict[str, str],
    site: Site,
    http: httpx.Client,
    tmp_path: Path,
) -> None:
    sign_in(http, site.base)
    file = tmp_path / "form"
    file.write_bytes(body(bytes(size)))
    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Cookie": f"session={http.cookies['session']}",
        "Expect": "100-continue",
        "Origin": site.base,
    }
    patience = ["--expect100-timeout", "3600"]  # curl sends nothing unless it is asked to
    shown = ["--verbose", "--output", "/dev/null"]
    shown += ["--write-out", "%{http_code} %{size_upload} %{time_total}"]
    upload = ["--data-binary", f"@{file}", f"{site.base}/admin/files/"]
    done = subprocess.run(
        curl(headers | changed, *patience, *shown, *upload),
        capture_output=True,
        text=True,
        check=True,
    )
    answered, sent, seconds = done.stdout.split()
    assert int(answered) == status
    assert "> Expect: 100-continue" in done.stderr
    assert ("100 Continue" in done.stderr) == (status == 201)
    assert int(sent) == (file.stat().st_size if status == 201 else 0)
    assert float(seconds) < 5  # less than aiohttp would wait for the rest of a body


def test_what_nobody_can_expect_is_refused(site: Site, http: httpx.Client) -> None:
    """Not by curl, which answers 417 with the request again."""
    sign_in(http, site.base)
    with connected(site, http, MiB, "Expect: something-else\r\n") as connection:
        connection.settimeout(5)
        assert connection.recv(12) == b"HTTP/1.1 417"


def resident(pid: int) -> int:
    """Return the memory that a process has, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * KiB


@pytest.mark.parametrize("command", [standalone, gunicorn])
def test_a_large_file_takes_no_memory(
    command: Callable[..., list[str]],
    installed: Project,
    account: str,
    http: httpx.Client,
    tmp_path: Path,
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(GiB)
    try:
        with serving(
            installed,
            tmp_path,
            account,
            command,
            LOG_LEVEL="WARNING",
            MAX_UPLOAD_SIZE="2GiB",
            WEB_CONCURRENCY="1",
        ) as site:
            sign_in(http, site.base)
            pids = site.server.group()
            worker = max(pids)
            assert len(pids) == (2 if command is gunicorn else 1)
            before = most = resident(worker)
            headers = {"Origin": site.base, "Cookie": f"session={http.cookies['session']}"}
            form = ["--form", f"file=@{large}", f"{site.base}/admin/files/"]
            uploading = subprocess.Popen(curl(headers, *form), stdout=subprocess.PIPE)

            def finished() -> bool:
                nonlocal most
                most = max(most, resident(worker))
                return uploading.poll() is not None

            wait_for(finished, "the upload to end", 240)
            assert uploading.stdout
            with uploading.stdout as answer:
                assert json.load(answer)["size"] == GiB
            (kept,) = site.kept()
            assert (kept / "content").stat().st_size == GiB
            assert most - before < 32 * MiB
    finally:
        large.unlink()
        shutil.rmtree(tmp_path / "uploads", ignore_errors=True)


def test_an_upload_that_is_cut_off_leaves_nothing(site: Site, http: httpx.Client) -> None:
    sign_in(http, site.base)
    kept = site.kept()
    with connected(site, http, MiB) as connection:
        connection.sendall(body(bytes(MiB))[: 600 * KiB])
        wait_for(site.incoming, "the upload to begin")
    wait_for(lambda: not site.incoming(), "the upload to be given up")
    assert site.kept() == kept


def test_a_worker_that_is_killed_leaves_nothing(
    installed: Project, account: str, http: httpx.Client, tmp_path: Path
) -> None:
    with serving(installed, tmp_path, account, gunicorn, WEB_CONCURRENCY="1") as site:
        sign_in(http, site.base)
        with connected(site, http, 10 * MiB) as connection:
            connection.sendall(body(bytes(10 * MiB))[: 5 * MiB])
            wait_for(site.incoming, "the upload to begin")
            (worker,) = set(site.server.group()) - {site.server.process.pid}
            os.kill(worker, signal.SIGKILL)
        wait_for(lambda: not site.incoming(), "the next worker to clean up")
        assert site.kept() == []
        assert upload(http, site, b"as before").status_code == 201


def drip(connection: socket.socket) -> bytes:
    """Send a byte every tenth of a second; return what was answered before the connection ended."""
    answer = b""
    connection.settimeout(0.1)
    for _ in range(200):
        try:
            if not (data := connection.recv(65536)):
                return answer
            answer += data
        except TimeoutError:
            try:
                connection.send(b"x")
            except OSError:
                return answer
        except ConnectionError:
            return answer
    raise AssertionError(f"20 s, and still connected: {answer!r}")


@pytest.mark.parametrize("begun", [0, 50 * KiB])
def test_slow_bodies_are_given_up(
    begun: int, installed: Project, account: str, http: httpx.Client, tmp_path: Path
) -> None:
    with serving(installed, tmp_path, account, READ_TIMEOUT="1") as site:
        sign_in(http, site.base)
        with connected(site, http, MiB) as connection:
            connection.sendall(body(bytes(MiB))[:begun])
            assert drip(connection).startswith(b"HTTP/1.1 408 ")
        wait_for(lambda: not site.incoming(), "the upload to be given up")
        assert site.kept() == []
        assert site.errors() == []


def test_slow_heads_are_given_up(installed: Project, account: str, tmp_path: Path) -> None:
    with (
        serving(installed, tmp_path, account, KEEPALIVE_TIMEOUT="1") as site,
        socket.create_connection(("127.0.0.1", site.port)) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert b" 200 " not in drip(connection)


def test_a_file_is_whole_or_not_there(
    installed: Project, account: str, http: httpx.Client, tmp_path: Path
) -> None:
    """Whenever its client leaves after the last byte: politely or not, sooner or later."""
    kept_for_sure = []
    sent = {}
    with serving(installed, tmp_path, account) as site:
        sign_in(http, site.base)
        for number in range(60):
            content = os.urandom(100 * KiB + number)
            sent[len(content)] = content
            form = body(content)
            with connected(site, http, len(form)) as connection:
                if number % 2:  # closes by a reset
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.sendall(form)
                if select.select([connection], [], [], number / 4000)[0]:
                    assert connection.recv(12) == b"HTTP/1.1 201"
                    kept_for_sure.append(len(content))
        assert upload(http, site, b"the last").status_code == 201
        sent[8] = b"the last"
        assert site.server.stop(signal.SIGTERM) == 0
        assert site.incoming() == []
        sizes = []
        for folder in site.kept():
            record = json.loads((folder / "record.json").read_text())
            assert (folder / "content").read_bytes() == sent[record["size"]]
            sizes.append(record["size"])
    assert len(set(sizes)) == len(sizes)
    assert {8, *kept_for_sure} <= set(sizes)
    assert site.errors() == []


def inside(server: Server, folder: Path) -> Path:
    """Return the path of a folder as the server sees it, which has mounts of its own."""
    return Path(f"/proc/{server.process.pid}/root{folder}")


def test_a_full_disk(installed: Project, account: str, http: httpx.Client, tmp_path: Path) -> None:
    """A file system of 1 MiB, which the server mounts for itself alone."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    script = f"mount -t tmpfs -o size=1m tmpfs '{folder}' && exec \"$@\""

    def on_a_small_disk(project: Project, *arguments: str) -> list[str]:
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        return [*unshare, "sh", "-c", script, "sh", *standalone(project, *arguments)]

    with serving(installed, tmp_path, account, on_a_small_disk) as site:
        uploads = inside(site.server, folder)
        sign_in(http, site.base)
        for size in (2 * MiB, 8 * MiB):  # known when the file is finished, and in the middle
            assert upload(http, site, bytes(size)).status_code == 507
            assert list(uploads.glob("*/*")) == []
        assert upload(http, site, bytes(100 * KiB)).status_code == 201
        assert len(list(uploads.glob("files/*/content"))) == 1
        assert folder.exists()
        assert list(folder.iterdir()) == []
        assert {str(line["event"]).partition(":")[0] for line in site.errors()} == {
            "no room for an upload"
        }
