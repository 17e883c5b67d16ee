"""nginx in front of gunicorn, and of a pool of standalone servers, under supervisord."""

import asyncio
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from getpass import getuser
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import brotli
import pytest
from conftest import (
    PRODUCTION,
    TIMEOUT,
    Project,
    answers_at,
    clean_environment,
    client,
    free_port,
    in_env_file,
    listens,
    loud,
    sign_in,
    upload,
    wait_for,
)
from load import load
from needs import needs
from stack import Stack, ask, children, stack, talk
from workers import run

pytestmark = needs("nginx", "user namespaces")

MIB = 1024**2
KINDS = [
    pytest.param(kind, marks=pytest.mark.xdist_group(f"stack-{kind}"))
    for kind in ("gunicorn", "pool")
]


@pytest.fixture(params=KINDS, scope="module")
def site(request: pytest.FixtureRequest, installed: Project, account: str) -> Iterator[Stack]:
    variables = {"ADMIN_USERS": account, "DRAIN_TIMEOUT": "2.5"}
    with stack(installed, request.param, **variables) as found:
        yield found


def test_no_process_has_capabilities(site: Stack) -> None:
    for pid in (site.server.process.pid, *site.pids().values()):
        status = Path(f"/proc/{pid}/status").read_text()
        capabilities = re.findall(r"^Cap(?:Prm|Eff|Inh|Amb):\t(\w+)", status, re.MULTILINE)
        assert set(capabilities) == {"0" * 16}, status


def test_page_comes_from_the_application_and_is_logged_by_both(site: Stack) -> None:
    with client() as http:
        page = http.get(f"{site.base}/about")
    assert page.status_code == 200
    assert page.headers["Server"] == "nginx"
    (line,) = site.wrote("/about", "nginx")
    assert str(line["upstream"]).startswith(f"unix:{site.run}/sockets/app")
    (line,) = site.wrote("/about", "access")
    assert (line["client"], line["scheme"]) == ("127.0.0.1", "http")


def test_database_is_migrated_once_and_not_by_each_process(site: Stack) -> None:
    migrations = [line for line in site.lines() if line["logger"] == "alembic.runtime.migration"]
    upgrades = [line for line in migrations if "Running upgrade" in str(line["event"])]
    assert (len(upgrades), len(migrations)) == (1, 3)
    wait_for(answers_at(f"{site.base}/readyz"), "it to be ready")


def test_static_files_are_served_by_nginx_alone(site: Stack) -> None:
    source = site.project.path / "src" / site.project.package / "static/site.css"
    with client() as http:
        page = http.get(site.base + "/").text
        found = re.search(r'href="(/static/site\.css\?v=[^"]+)"', page)
        assert found
        versioned = http.get(site.base + found[1], headers={"Accept-Encoding": "identity"})
        plain = http.get(f"{site.base}/static/site.css")
        wrong = http.get(f"{site.base}/static/site.css?v={'A' * 43}%3D")
        with http.stream("GET", site.base + found[1], headers={"Accept-Encoding": "br"}) as answer:
            by_brotli = b"".join(answer.iter_raw())
        gzipped = {"Accept-Encoding": "gzip"}
        with http.stream("GET", site.base + found[1], headers=gzipped) as answer:
            by_gzip = b"".join(answer.iter_raw())
            assert answer.headers["Vary"] == "Accept-Encoding"
        again = http.get(plain.url, headers={"If-None-Match": plain.headers["ETag"]})
        missing = http.get(f"{site.base}/static/missing.css", headers={"Accept": "text/html"})
        ranged = {"Range": "bytes=999999-", "Accept-Encoding": "identity"}
        beyond = http.get(site.base + found[1], headers=ranged)
        posted = http.post(f"{site.base}/static/site.css", headers={"Origin": site.base})
        listing = http.get(f"{site.base}/static/")
        outside = http.get(f"{site.base}/static/../settings.py")
        encoded = http.get(f"{site.base}/static/%2e%2e/settings.py")
    assert versioned.content == source.read_bytes()
    assert versioned.headers["Content-Type"] == "text/css; charset=utf-8"
    assert versioned.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert versioned.headers["X-Content-Type-Options"] == "nosniff"
    assert plain.headers["Cache-Control"] == wrong.headers["Cache-Control"] == "no-cache"
    assert brotli.decompress(by_brotli) == gzip.decompress(by_gzip) == source.read_bytes()
    assert again.status_code == 304
    statuses = [answer.status_code for answer in (missing, listing, outside, encoded)]
    assert statuses == [404, 404, 404, 404]
    assert (beyond.status_code, beyond.headers["Cache-Control"]) == (416, "no-cache, no-store")
    assert (posted.status_code, posted.headers["Allow"]) == (405, "GET,HEAD")
    assert "There is no page at this address." in missing.text  # the application's own page
    lines = {by: site.wrote("/static/site.css", by) for by in ("nginx", "access")}
    got = {by: [line for line in lines[by] if line["method"] == "GET"] for by in lines}
    assert got["nginx"]
    assert all(line["upstream"] == "" for line in got["nginx"])
    assert not got["access"]


def test_symbolic_link_among_static_files_is_404(site: Stack) -> None:
    link = site.project.path / "src" / site.project.package / "static/link.css"
    link.symlink_to("/etc/hostname")
    try:
        with client() as http:
            assert http.get(f"{site.base}/static/link.css").status_code == 404
    finally:
        link.unlink()


def test_uploaded_file_is_sent_by_nginx_after_the_admin_allows_it(site: Stack) -> None:
    content = os.urandom(10 * MIB)
    with client() as http:
        path = upload(http, site.base, content)
        answer = http.get(site.base + path)
        assert answer.content == content
        assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        http.cookies.clear()
        assert http.get(site.base + path).status_code == 401
        kept = path.rpartition("/")[2]
        assert http.get(f"{site.base}/_files/{kept}/content").status_code == 404
    line, _ = site.wrote(path, "access", 2)
    assert line["bytes"] == 0  # nginx sent the files


def test_nginx_and_application_refuse_too_large_bodies_alike(site: Stack) -> None:
    """Uploads have another limit."""
    with client() as http:
        sign_in(http, site.base)
        cookie = http.cookies["session"]
    head = f"Host: 127.0.0.1:{site.port}\nOrigin: {site.base}\nCookie: session={cookie}\n"
    form = f"{head}Content-Type: multipart/form-data; boundary=x\nContent-Length: "
    uds = sorted(site.run.glob("sockets/app*.sock"))[0]
    for address in (site.port, uds):
        # One byte more than allowed.
        status, headers, text = ask(
            address, f"POST /echo HTTP/1.1\n{head}Content-Length: {MIB + 1}\n", b"x" * (MIB + 1)
        )
        assert (status, headers.get_content_type()) == (413, "application/problem+json")
        assert json.loads(text)["request_id"] == headers["X-Request-ID"]
        limit = 100 * MIB + 16 * 1024
        status, headers, _ = ask(address, f"POST /admin/files/ HTTP/1.1\n{form}{limit + 1}\n")
        assert (status, headers.get_content_type()) == (413, "application/problem+json")
    assert [line["status"] for line in site.wrote("/echo", "nginx")] == [413]
    assert [line["client"] for line in site.wrote("/echo", "access")] == ["unix"]
    # Both accept a body of exactly the maximum size.
    with client() as http:
        assert len(http.post(f"{site.base}/echo", content=b"x" * MIB).content) == MIB


def test_request_id_is_the_same_in_both_logs_the_header_and_the_page(site: Stack) -> None:
    spoofed = {
        "X-Request-ID": "spoofed",
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=203.0.113.9",
    }
    with client() as http:
        page = http.get(f"{site.base}/no-such-page", headers={"Accept": "text/html"} | spoofed)
    large = f"POST /no-such-upload HTTP/1.1\nHost: localhost\nContent-Length: {2 * MIB}\n"
    status, headers, text = ask(site.port, f"{large}Accept: text/html\n")
    name = page.headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", name)
    assert name in page.text
    (at_nginx,) = site.wrote("/no-such-page", "nginx")
    (at_project,) = site.wrote("/no-such-page", "access")
    assert at_nginx["request_id"] == at_project["request_id"] == name
    for line in (at_nginx, at_project):
        assert (line["client"], line["scheme"], line["status"]) == ("127.0.0.1", "http", 404)
    # Also where nginx itself responds.
    assert status == 413
    assert headers["X-Request-ID"] in text
    assert "The request was refused" in text
    (line,) = site.wrote("/no-such-upload", "nginx")
    assert (line["request_id"], line["method"]) == (headers["X-Request-ID"], "POST")
    assert not site.access("/no-such-upload", "access")


def test_websocket_passes_through_nginx(site: Stack) -> None:
    assert run(talk(site.base)) == {"type": "pong"}


def test_upgrade_to_another_protocol_is_not_passed_on(site: Stack) -> None:
    with client() as http:
        sent = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""}
        assert http.get(f"{site.base}/about", headers=sent).status_code == 200


def test_sign_in_attempts_are_limited_by_nginx(site: Stack) -> None:
    statuses = set()

    def attempt() -> None:
        form = {"name": "nobody", "password": "wrong"}
        statuses.add(http.post(f"{site.base}/admin/login", data=form).status_code)

    def limited() -> bool:
        attempt()
        log = site.access("/admin/login", "nginx")
        return any(line["status"] == 429 and line["upstream"] == "" for line in log)

    with client() as http:
        http.headers["Origin"] = site.base
        for _ in range(30):
            attempt()
        wait_for(limited, "nginx itself to refuse an attempt")
        assert http.get(f"{site.base}/admin/login").status_code == 200
    assert statuses == {401, 429}


def wait_until_ended(site: Stack, processes: set[int]) -> None:
    """Wait until none of the processes is left."""
    wait_for(lambda: not processes & set(site.server.group()), "the old processes to end")


def test_killed_process_costs_no_more_than_the_requests_it_was_handling(site: Stack) -> None:
    """Kill a worker of gunicorn, gunicorn itself, or a server of the pool."""
    name, app = sorted(site.members().items())[-1]
    for killed in [min(site.workers()), *children(app)] if name == "app" else [app]:
        site.kill_under_load(killed)


def test_killed_program_of_supervisord_is_replaced(site: Stack) -> None:
    name, before = sorted(site.members().items())[0]
    ending = site.workers() | set(children(before)) if name == "app" else {before}
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: site.pids()[name] not in {0, before}, "another one")
    # Its child processes notice that it is gone.
    wait_until_ended(site, ending)
    wait_for(lambda: listens(site.run / "sockets" / f"{name}.sock"), "it to listen")
    wait_for(lambda: len(site.workers()) == 2, "its workers")
    wait_for(answers_at(f"{site.base}/livez"), "the site to be back")


def test_no_request_is_lost_by_two_reloads_at_once(site: Stack) -> None:
    old = site.workers()
    if "app_2" in site.members():  # the first reload must begin with the member that is down
        site.control("stop", "site:app_2")
    with load([site.port], "/", "/echo") as clients, ThreadPoolExecutor() as threads:
        clients.wait_for_all(4, 20)
        done = list(threads.map(site.make, ["reload", "reload"]))
        wait_until_ended(site, old)
        clients.wait_for_all(4, 50)
    assert [each.returncode for each in done] == [0, 0], done
    assert clients.failures == [], site.lines()[-500:]
    assert len(site.workers() - {0}) == 2


async def stop_while_busy(site: Stack, release: Path) -> tuple[str, int | None]:
    """Stop the stack during a request and with an open WebSocket; return the results of both."""
    async with asyncio.timeout(TIMEOUT), aiohttp.ClientSession() as session:
        connect = session.ws_connect(f"{site.base}/live", protocols=["live.v1"], origin=site.base)
        async with connect as websocket:
            await websocket.send_json({"type": "ping"})
            await websocket.receive_json()
            answer = asyncio.create_task(session.get(f"{site.base}/held?until={release}"))
            held = lambda: '"event":"held"' in site.server.output()  # noqa: E731
            await asyncio.to_thread(wait_for, held, "the request to be held")
            os.kill(site.server.process.pid, signal.SIGTERM)
            await websocket.receive()
            await asyncio.to_thread(release.touch)
            async with await answer as response:
                return await response.text(), websocket.close_code


@pytest.mark.parametrize("app_server", ["gunicorn", "pool"])
def test_stack_stops_gracefully_and_logs_no_more_than_facts_in_json(
    app_server: str, installed: Project, tmp_path: Path
) -> None:
    with stack(installed, app_server, DRAIN_TIMEOUT="1") as site:
        assert run(stop_while_busy(site, tmp_path / "release")) == ("released", 1001)
        assert site.server.process.wait(TIMEOUT) == 0
        wait_for(lambda: not site.server.group(), "the last process to end")
        assert not list(site.run.rglob("*.sock"))
        lines = [json.loads(line) for line in site.server.output().splitlines()]
    assert all({"timestamp", "level", "logger", "event"} <= set(line) for line in lines)
    # Except the line of /held, and requests that arrived before the application.
    others = [event for event in loud(lines) if event != "held" and " /livez " not in event]
    assert others == []
    assert {"nginx", "access", "supervisord"} <= {line["logger"] for line in lines}


def test_stack_starts_with_a_socket_as_its_output_and_settings_of_env_file(
    installed: Project, tmp_path: Path
) -> None:
    """As under systemd, where it is the journal; a reload finds the log there."""
    ours, theirs = socket.socketpair()
    with ours, TemporaryDirectory() as run, in_env_file(installed, RUN_FOLDER=run):
        port = free_port()
        variables = PRODUCTION | {
            "UPLOAD_FOLDER": str(tmp_path / "uploads"),
            "DATABASE_URL": f"sqlite:///{tmp_path}/data/app.db",
            "DRAIN_TIMEOUT": "1",
            "LISTEN_ADDRESS": "127.0.0.1",
            "LISTEN_PORT": str(port),
            "SERVICE_USER": getuser(),
        }
        with theirs:
            process = subprocess.Popen(
                ["deploy/start.sh"],
                cwd=installed.path,
                env=clean_environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=theirs.fileno(),
                stderr=subprocess.STDOUT,
            )
        output = bytearray()

        def read() -> None:
            while chunk := ours.recv(65536):
                output.extend(chunk)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            ready = answers_at(f"http://127.0.0.1:{port}/readyz")
            wait_for(lambda: ready() or process.poll() is not None, "it to be ready")
            installed.make("reload", **variables)
        finally:
            process.terminate()
            status = process.wait(TIMEOUT)
            reader.join(TIMEOUT)
    assert status == 0, output.decode()
    assert b'"logger":"access"' in output
    assert b"Shutting down: Master" in output
