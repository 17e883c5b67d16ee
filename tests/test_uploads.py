"""Uploads to the project as a process: large, refused, slow and interrupted."""

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from conftest import (
    TIMEOUT,
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
from needs import needs

pytestmark = [needs("linux"), pytest.mark.xdist_group("uploads")]  # the tests share a server

KiB, MiB = 1024, 1024**2
BOUNDARY = "the-boundary"


@pytest.fixture(scope="module")
def site(
    installed: Project, account: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Run a server that accepts uploads of up to 1 MiB."""
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
    """Return the body of a form with a file."""
    disposition = 'Content-Disposition: form-data; name="file"; filename="a.bin"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\n\r\n"
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def connected(site: Site, http: httpx.Client, size: int, more: str = "") -> socket.socket:
    """Return a connection on which the head of an upload was sent, with extra headers."""
    head = (
        "POST /admin/files/ HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{site.port}\r\n"
        f"Origin: {site.base}\r\n"
        f"Cookie: session={http.cookies['session']}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {size}\r\n{more}\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", site.port), timeout=TIMEOUT)
    connection.sendall(head.encode())
    return connection


def curl(headers: dict[str, str], *arguments: str) -> list[str]:
    """Return a curl command that sends a request."""
    options = [part for name in headers for part in ("--header", f"{name}: {headers[name]}")]
    limit = ["--max-time", f"{TIMEOUT:.0f}"]
    return ["curl", "--silent", "--noproxy", "*", *limit, *options, *arguments]


@needs("curl")
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
def test_refused_upload_with_expect_header_is_not_sent(
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
    patience = ["--expect100-timeout", "3600"]  # curl sends the body only after 100 Continue
    shown = ["--verbose", "--output", "/dev/null"]
    shown += ["--write-out", "%{http_code} %{size_upload}"]
    upload = ["--data-binary", f"@{file}", f"{site.base}/admin/files/"]
    done = subprocess.run(
        curl(headers | changed, *patience, *shown, *upload),
        capture_output=True,
        text=True,
        check=True,
    )
    answered, sent = done.stdout.split()
    assert int(answered) == status
    assert "> Expect: 100-continue" in done.stderr
    assert ("100 Continue" in done.stderr) == (status == 201)
    assert int(sent) == (file.stat().st_size if status == 201 else 0)


def test_unknown_expectation_is_refused_with_417(site: Site, http: httpx.Client) -> None:
    """The test does not use curl, which repeats the request after 417."""
    sign_in(http, site.base)
    with connected(site, http, MiB, "Expect: something-else\r\n") as connection:
        assert connection.recv(12) == b"HTTP/1.1 417"


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * KiB


LARGE = 256 * MiB


@needs("curl")
@pytest.mark.parametrize("command", [standalone, gunicorn])
def test_large_upload_does_not_grow_the_memory_of_the_server(
    command: Callable[..., list[str]],
    installed: Project,
    account: str,
    http: httpx.Client,
    tmp_path: Path,
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(LARGE)
    try:
        with serving(
            installed,
            tmp_path,
            account,
            command,
            LOG_LEVEL="WARNING",
            MAX_UPLOAD_SIZE="300MiB",
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

            wait_for(finished, "the upload to end")
            assert uploading.stdout
            with uploading.stdout as answer:
                assert json.load(answer)["size"] == LARGE
            (kept,) = site.kept()
            assert (kept / "content").stat().st_size == LARGE
            assert most - before < 32 * MiB
    finally:
        large.unlink()
        shutil.rmtree(tmp_path / "uploads", ignore_errors=True)


def test_upload_that_is_cut_off_leaves_no_file(site: Site, http: httpx.Client) -> None:
    sign_in(http, site.base)
    kept = site.kept()
    with connected(site, http, MiB) as connection:
        connection.sendall(body(bytes(MiB))[: 600 * KiB])
        wait_for(site.incoming, "the upload to begin")
    wait_for(lambda: not site.incoming(), "the upload to be aborted")
    assert site.kept() == kept


def test_upload_of_a_killed_worker_is_cleaned_up_by_the_next_worker(
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
    """Send ten bytes per second until the server closes the connection; return its response."""
    answer = b""
    connection.settimeout(0.1)
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            data = connection.recv(65536)
        except TimeoutError:
            with suppress(OSError):
                connection.send(b"x")
            continue
        except ConnectionError:
            return answer
        if not data:
            return answer
        answer += data
    raise AssertionError(f"{TIMEOUT:.0f} s, and still connected: {answer!r}")


@pytest.fixture(scope="module")
def impatient(
    installed: Project, account: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Run a server that soon aborts slow requests."""
    folder = tmp_path_factory.mktemp("impatient")
    variables = {"READ_TIMEOUT": "1", "KEEPALIVE_TIMEOUT": "1"}
    with serving(installed, folder, account, standalone, **variables) as site:
        yield site


@pytest.mark.parametrize("begun", [0, 50 * KiB])
def test_slow_body_is_aborted_with_408(
    begun: int, impatient: Site, site: Site, http: httpx.Client
) -> None:
    sign_in(http, site.base)  # at the server with long timeouts; both accept the same sessions
    with connected(impatient, http, MiB) as connection:
        connection.sendall(body(bytes(MiB))[:begun])
        assert drip(connection).startswith(b"HTTP/1.1 408 ")
    wait_for(lambda: not impatient.incoming(), "the upload to be aborted")
    assert impatient.kept() == []
    assert impatient.errors() == []


def test_slow_head_is_disconnected(impatient: Site) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert b" 200 " not in drip(connection)


def test_file_is_stored_whole_or_not_at_all_when_clients_disconnect(
    installed: Project, account: str, http: httpx.Client, tmp_path: Path
) -> None:
    """The client leaves sooner or later after the last byte, with or without a reset."""
    acknowledged = []
    sent = {}
    with serving(installed, tmp_path, account, DRAIN_TIMEOUT="0.5") as site:
        sign_in(http, site.base)
        for number in range(60):
            content = os.urandom(100 * KiB + number)
            sent[len(content)] = content
            form = body(content)
            with connected(site, http, len(form)) as connection:
                if number % 2:  # closes with a reset
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.sendall(form)
                if select.select([connection], [], [], number / 4000)[0]:
                    assert connection.recv(12) == b"HTTP/1.1 201"
                    acknowledged.append(len(content))
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
    assert {8, *acknowledged} <= set(sizes)
    assert site.errors() == []


def inside(server: Server, folder: Path) -> Path:
    """Return the path of a folder in the mount namespace of the server."""
    return Path(f"/proc/{server.process.pid}/root{folder}")


@needs("user namespaces")
def test_upload_to_a_full_disk_is_507_and_leaves_no_file(
    installed: Project, account: str, http: httpx.Client, tmp_path: Path
) -> None:
    """The server mounts a file system of 1 MiB in its own namespace."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    script = f"mount -t tmpfs -o size=1m tmpfs '{folder}' && exec \"$@\""

    def on_a_small_disk(project: Project, *arguments: str) -> list[str]:
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        return [*unshare, "sh", "-c", script, "sh", *standalone(project, *arguments)]

    with serving(installed, tmp_path, account, on_a_small_disk) as site:
        uploads = inside(site.server, folder)
        sign_in(http, site.base)
        for size in (2 * MiB, 8 * MiB):  # noticed when the file is finished, and before
            assert upload(http, site, bytes(size)).status_code == 507
            assert list(uploads.glob("*/*")) == []
        assert upload(http, site, bytes(100 * KiB)).status_code == 201
        assert len(list(uploads.glob("files/*/content"))) == 1
        assert folder.exists()
        assert list(folder.iterdir()) == []
        assert {str(line["event"]).partition(":")[0] for line in site.errors()} == {
            "no room for an upload"
        }
