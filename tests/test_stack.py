"""nginx in front of gunicorn, and of a pool of standalone servers, under supervisord."""

import asyncio
import gzip
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from getpass import getuser
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import brotli
import httpx
import pytest
from conftest import (
    PRODUCTION,
    Project,
    answers_at,
    clean_environment,
    client,
    free_port,
    sign_in,
    upload,
    wait_for,
)
from load import load
from stack import Stack, ask, stack, talk
from workers import run

MIB = 1024**2


@pytest.fixture(params=["gunicorn", "pool"], scope="module")
def site(request: pytest.FixtureRequest, installed: Project, account: str) -> Iterator[Stack]:
    with stack(installed, request.param, ADMIN_USERS=account) as found:
        yield found


def test_nobody_has_privileges(site: Stack) -> None:
    pids = [site.server.process.pid, *(site.pid(name) for name in ("nginx", *site.members()))]
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        capabilities = re.findall(r"^Cap(?:Prm|Eff|Inh|Amb):\t(\w+)", status, re.MULTILINE)
        assert set(capabilities) == {"0" * 16}, status


def test_a_page_comes_from_the_application(site: Stack) -> None:
    with client() as http:
        page = http.get(f"{site.base}/about")
    assert page.status_code == 200
    assert page.headers["Server"] == "nginx"
    (line,) = site.wrote("/about", "nginx")
    assert str(line["upstream"]).startswith(f"unix:{site.run}/app")
    (line,) = site.wrote("/about", "access")
    assert (line["client"], line["scheme"]) == ("127.0.0.1", "http")


def test_the_database_is_brought_up_to_date_once(site: Stack) -> None:
    """And not by each process."""
    migrations = [line for line in site.lines() if line["logger"] == "alembic.runtime.migration"]
    upgrades = [line for line in migrations if "Running upgrade" in str(line["event"])]
    assert (len(upgrades), len(migrations)) == (1, 3)
    assert httpx.get(f"{site.base}/readyz", trust_env=False).status_code == 200


def test_static_files_come_from_nginx(site: Stack) -> None:
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
    assert (beyond.status_code, beyond.headers["Cache-Control"]) == (416, "no-cache")
    assert (posted.status_code, posted.headers["Allow"]) == (405, "GET,HEAD")
    assert "There is no page at this address." in missing.text  # the application's own page
    lines = {by: site.wrote("/static/site.css", by) for by in ("nginx", "access")}
    got = {by: [line for line in lines[by] if line["method"] == "GET"] for by in lines}
    assert got["nginx"]
    assert all(line["upstream"] == "" for line in got["nginx"])
    assert not got["access"]


def test_a_symbolic_link_leads_nowhere(site: Stack) -> None:
    link = site.project.path / "src" / site.project.package / "static/link.css"
    link.symlink_to("/etc/hostname")
    try:
        with client() as http:
            assert http.get(f"{site.base}/static/link.css").status_code == 404
    finally:
        link.unlink()


def test_the_admin_keeps_files_and_nginx_sends_them(site: Stack) -> None:
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
    assert line["bytes"] == 0  # nginx has sent them


def test_what_is_too_large_is_refused_alike(site: Stack) -> None:
    """By nginx, and by the application when it is asked directly; uploads have another limit."""
    with client() as http:
        sign_in(http, site.base)
        cookie = http.cookies["session"]
    head = f"Host: 127.0.0.1:{site.port}\nOrigin: {site.base}\nCookie: session={cookie}\n"
    form = f"{head}Content-Type: multipart/form-data; boundary=x\nContent-Length: "
    uds = sorted(site.run.glob("app*.sock"))[0]
    for address in (site.port, uds):
        # The last byte is the one too many.
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
    # What is just not too large passes both.
    with client() as http:
        assert len(http.post(f"{site.base}/echo", content=b"x" * MIB).content) == MIB


def test_one_id_in_both_logs_the_header_and_the_page(site: Stack) -> None:
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
    # And where nginx answers itself.
    assert status == 413
    assert headers["X-Request-ID"] in text
    assert "The request was not taken" in text
    (line,) = site.wrote("/no-such-upload", "nginx")
    assert (line["request_id"], line["method"]) == (headers["X-Request-ID"], "POST")
    assert not site.access("/no-such-upload", "access")


def test_a_websocket_is_passed_through(site: Stack) -> None:
    assert run(talk(site.base)) == {"type": "pong"}


def test_other_upgrades_are_not(site: Stack) -> None:
    with client() as http:
        sent = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""}
        assert http.get(f"{site.base}/about", headers=sent).status_code == 200


def test_attempts_to_sign_in_are_limited_by_nginx(site: Stack) -> None:
    form = {"name": "nobody", "password": "wrong"}
    with client() as http:
        http.headers["Origin"] = site.base
        answers = [http.post(f"{site.base}/admin/login", data=form) for _ in range(50)]
        assert http.get(f"{site.base}/admin/login").status_code == 200
    assert {answer.status_code for answer in answers} == {401, 429}
    limited = [line for line in site.wrote("/admin/login", "nginx", 51) if line["status"] == 429]
    assert any(line["upstream"] == "" for line in limited)


def test_a_reload_with_a_wrong_setting_changes_nothing(site: Stack) -> None:
    before = [site.pid(name) for name in site.members()]
    wrong = replace(site, environment=site.environment | {"LOG_LEVEL": "LOUD"})
    done = wrong.make("reload")
    assert done.returncode != 0
    assert "LOG_LEVEL" in done.stderr
    assert [site.pid(name) for name in site.members()] == before
    assert httpx.get(f"{site.base}/livez", trust_env=False).status_code == 200


def test_no_request_is_lost_when_it_is_reloaded(site: Stack) -> None:
    before = len(site.server.output())
    with load([site.port], "/", "/echo") as clients:
        wait_for(lambda: len(clients.answers) == 4, "all kinds of clients")
        for _ in range(2):
            done = site.make("reload")
            assert done.returncode == 0, done.stdout + done.stderr
            enough = clients.answers.total() + 200
            wait_for(lambda enough=enough: clients.answers.total() > enough, "answers")
    assert clients.failures == []
    assert clients.answers.total() > 500
    # nginx asks another of the pool when one has gone, and nothing else goes wrong there.
    output = site.server.output()[before:]
    wrong = re.findall(
        r"^\d{4}/\d\d/\d\d .* \[(?:error|crit|alert|emerg)\] .*", output, re.MULTILINE
    )
    gone = "(2: No such file or directory) while connecting to upstream"
    assert all(gone in line and len(site.members()) > 1 for line in wrong), wrong


def test_a_process_that_is_killed_is_replaced(site: Stack) -> None:
    name = site.members()[-1]
    before = site.pid(name)
    with load([site.port], "/", "/echo") as clients:
        wait_for(lambda: len(clients.answers) == 4, "all kinds of clients")
        if name == "app":  # gunicorn: one of its workers
            (worker, *_) = Path(f"/proc/{before}/task/{before}/children").read_text().split()
            os.kill(int(worker), signal.SIGKILL)
            gone = Path(f"/proc/{worker}")
            wait_for(lambda: not gone.exists(), "the worker to end")
        else:
            os.kill(before, signal.SIGKILL)
            wait_for(lambda: site.pid(name) not in {0, before}, "supervisord to start another")
        after = clients.answers.total()
        wait_for(lambda: clients.answers.total() > after + 500, "answers")
    # Two of the clients open a connection for each request; all eight may have one under way.
    assert len(clients.failures) <= 8, clients.failures


def test_the_master_that_is_killed_is_replaced(site: Stack) -> None:
    name = site.members()[0]
    before = site.pid(name)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: site.pid(name) not in {0, before}, "supervisord to start another")

    def back() -> bool:
        return httpx.get(f"{site.base}/livez", trust_env=False).status_code == 200

    wait_for(back, "the site to be back")


def test_two_reloads_at_once_take_turns(site: Stack) -> None:
    with load([site.port], "/", "/echo") as clients, ThreadPoolExecutor() as threads:
        wait_for(lambda: len(clients.answers) == 4, "all kinds of clients")
        done = list(threads.map(site.make, ["reload", "reload"]))
    assert [each.returncode for each in done] == [0, 0]
    assert clients.failures == []


async def stop_while_busy(site: Stack) -> tuple[str, int | None]:
    """Stop all with a request under way and a WebSocket open; return what both got."""
    async with aiohttp.ClientSession() as session:
        connect = session.ws_connect(f"{site.base}/live", protocols=["live.v1"], origin=site.base)
        async with connect as websocket:
            await websocket.send_json({"type": "ping"})
            await websocket.receive_json(timeout=10)
            slow = asyncio.create_task(session.get(f"{site.base}/slow?seconds=3"))
            await asyncio.sleep(1)
            os.kill(site.server.process.pid, signal.SIGTERM)
            await websocket.receive(timeout=20)
            async with await slow as answer:
                return await answer.text(), websocket.close_code


@pytest.mark.parametrize("app_server", ["gunicorn", "pool"])
def test_all_stop_gracefully(app_server: str, installed: Project) -> None:
    with stack(installed, app_server) as site:
        assert run(stop_while_busy(site)) == ("slept", 1001)
        assert site.server.process.wait(timeout=30) == 0
        wait_for(lambda: not site.server.group(), "the last process to end")
        assert not list(site.run.glob("*.sock"))


def test_it_starts_with_the_journal_as_its_output(installed: Project, tmp_path: Path) -> None:
    """Which is a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs, TemporaryDirectory() as run:
        port = free_port()
        variables = PRODUCTION | {
            "RUN_FOLDER": run,
            "UPLOAD_FOLDER": str(tmp_path / "uploads"),
            "DATABASE_URL": f"sqlite:///{tmp_path}/data/app.db",
            "LISTEN_ADDRESS": "127.0.0.1",
            "LISTEN_PORT": str(port),
            "SERVICE_USER": getuser(),
        }
        process = subprocess.Popen(
            ["deploy/start.sh"],
            cwd=installed.path,
            env=clean_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        theirs.close()
        try:
            wait_for(answers_at(f"http://127.0.0.1:{port}/readyz"), "it to answer")
        finally:
            process.terminate()
        output = b""
        while chunk := ours.recv(65536):
            output += chunk
        assert process.wait(timeout=30) == 0
    assert b'"logger":"access"' in output
    assert b"Shutting down: Master" in output
