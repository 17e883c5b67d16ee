"""nginx where strangers meet it: TLS, slow clients, and another proxy in front."""

import asyncio
import contextlib
import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from conftest import Project, Tab, client, free_port, started, upload
from stack import UNPRIVILEGED, Stack, stack, talk
from workers import run

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
)
"""Of Mozilla's intermediate profile 5.7, for TLS 1.2."""


@pytest.fixture(scope="module")
def tls(installed: Project, account: str) -> Iterator[tuple[Stack, int]]:
    """The project behind TLS, with the pair that ``make certs`` makes, and the port of that."""
    installed.make("certs")
    port = free_port()
    with TemporaryDirectory() as acme:
        variables = {
            "TLS_CERTIFICATE": "certs/localhost.pem",
            "TLS_KEY": "certs/localhost.key",
            "TLS_PORT": str(port),
            "ACME_FOLDER": acme,
            "ADMIN_USERS": account,
        }
        with stack(installed, "gunicorn", **variables) as site:
            yield site, port


def trusting(site: Stack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=site.project.path / "certs/localhost.pem")


def test_plain_http_leads_to_tls(tls: tuple[Stack, int]) -> None:
    site, port = tls
    with client() as http:
        answer = http.get(f"{site.base}/about?a=b")
        assert answer.status_code == 301
        assert answer.headers["Location"] == f"https://127.0.0.1:{port}/about?a=b"
        challenge = Path(site.environment["ACME_FOLDER"], ".well-known/acme-challenge/token")
        assert http.get(f"{site.base}/.well-known/acme-challenge/token").status_code == 404
        challenge.parent.mkdir(parents=True)
        challenge.write_text("the challenge")
        answer = http.get(f"{site.base}/.well-known/acme-challenge/token")
        assert answer.text == "the challenge"


def test_pages_and_files_come_over_tls(tls: tuple[Stack, int]) -> None:
    site, port = tls
    with httpx.Client(verify=trusting(site), trust_env=False) as http:
        for path in ("/about", "/static/site.css"):
            answer = http.get(f"https://localhost:{port}{path}")
            assert answer.status_code == 200
            assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"
        own = {"Origin": f"https://localhost:{port}"}
        assert http.post(f"https://localhost:{port}/echo", headers=own).status_code == 200
        plain = {"Origin": f"http://localhost:{port}"}
        assert http.post(f"https://localhost:{port}/echo", headers=plain).status_code == 403
    (line,) = site.wrote("/about", "access")
    assert line["scheme"] == "https"
    certificate = str(site.project.path / "certs/localhost.pem")
    command = ["curl", "--silent", "--http2", "--cacert", certificate, "--output", "/dev/null"]
    command += ["--write-out", "%{http_version} %{http_code}", f"https://localhost:{port}/about"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "2 200"


def test_the_admin_and_websockets_work_over_tls(tls: tuple[Stack, int]) -> None:
    site, port = tls
    base = f"https://localhost:{port}"
    content = os.urandom(10 * 1024**2)
    with httpx.Client(verify=trusting(site), trust_env=False, timeout=20) as http:
        path = upload(http, base, content)
        (cookie,) = http.cookies.jar
        assert (cookie.name, cookie.secure) == ("__Host-session", True)
        answer = http.get(base + path)
        assert answer.content == content
        assert answer.headers["Server"] == "nginx"
    assert run(talk(base, trusting(site))) == {"type": "pong"}


def handshake(port: int, *options: str) -> str | None:
    """Return what openssl says of a connection; None when there is none."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20)
    return done.stdout if done.returncode == 0 else None


def test_the_profile_is_mozillas(tls: tuple[Stack, int]) -> None:
    """Each of its ciphers and curves is taken, and nothing else; the pair has an ECDSA key."""
    _, port = tls
    everything = subprocess.run(
        ["openssl", "ciphers", "ALL:@SECLEVEL=0"], capture_output=True, text=True, check=True
    ).stdout.strip()
    offered = [name for name in everything.split(":") if not name.startswith("TLS_")]
    accepted = [
        name
        for name in offered
        if handshake(port, "-tls1_2", "-cipher", f"{name}:@SECLEVEL=0") is not None
    ]
    assert sorted(accepted) == sorted(name for name in CIPHERS.split(":") if "ECDSA" in name)
    for curve in ("X25519", "prime256v1", "secp384r1"):
        assert handshake(port, "-tls1_3", "-groups", curve) is not None
    for curve in ("X448", "secp521r1"):
        assert handshake(port, "-tls1_3", "-groups", curve) is None
    for old in ("-tls1", "-tls1_1"):
        assert handshake(port, old, "-cipher", "ALL:@SECLEVEL=0") is None


def test_the_profile_is_whole_with_an_rsa_key(installed: Project, tmp_path: Path) -> None:
    """Then the other half of the ciphers is taken, and DHE has the group of RFC 7919."""
    pair = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*make, *pair], check=True, capture_output=True)
    port = free_port()
    paths = {
        "TLS_CERTIFICATE": str(tmp_path / "cert.pem"),
        "TLS_KEY": str(tmp_path / "key.pem"),
    }
    with stack(installed, "gunicorn", TLS_PORT=str(port), **paths):
        for name in CIPHERS.split(":"):
            told = handshake(port, "-tls1_2", "-cipher", name)
            assert (told is not None) == ("ECDSA" not in name), name
            if name.startswith("DHE"):
                assert "Server Temp Key: DH, 2048 bits" in (told or "")


SLOW = 1000


async def slow_clients(port: int, site: Stack) -> tuple[list[float], list[float]]:
    """Connect the slow clients; return the seconds until each is let go, and what pages take."""
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    body = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    began = time.monotonic()

    async def crawl(number: int) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # A third is silent, a third drips a header, and a third stops in the middle of a body.
        kind = number % 3
        writer.write((b"", head, body)[kind])

        async def drip() -> None:
            while kind == 1:
                await asyncio.sleep(1)
                writer.write(b"x")

        dripping = asyncio.create_task(drip())
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        finally:
            dripping.cancel()
            writer.close()
        return time.monotonic() - began

    clients = [asyncio.create_task(crawl(number)) for number in range(SLOW)]
    pages = []
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        while not all(each.done() for each in clients):
            asked = time.monotonic()
            answer = await http.get(f"http://127.0.0.1:{port}/about")
            assert answer.status_code == 200
            pages.append(time.monotonic() - asked)
            await asyncio.sleep(0.2)
    return [each.result() for each in clients], pages


def test_slow_clients_are_let_go_and_hold_up_nobody(installed: Project) -> None:
    with stack(installed, "gunicorn") as site:
        gone, pages = run(slow_clients(site.port, site))
    assert len(gone) == SLOW
    assert max(gone) < 15
    assert min(gone) > 5  # they were all there at once
    assert len(pages) > 20
    assert sorted(pages)[len(pages) // 2] < 1


def test_slow_clients_are_let_go_where_tls_is_offered_too(tls: tuple[Stack, int]) -> None:
    site, port = tls
    began = time.monotonic()
    with contextlib.ExitStack() as connections:
        opened = [
            connections.enter_context(socket.create_connection(("127.0.0.1", each)))
            for each in (site.port, site.port, port, port)
        ]
        opened[0].sendall(b"GET / HTTP/1.1\r\nHost: loc")
        opened[2].sendall(b"\x16\x03")
        for connection in opened:
            connection.settimeout(15)
            with contextlib.suppress(ConnectionError):
                while connection.recv(4096):
                    pass
    assert 5 < time.monotonic() - began < 15


def test_another_proxy_in_front_is_believed_and_nobody_else(installed: Project) -> None:
    sent = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    with stack(installed, "gunicorn", TRUSTED_PROXIES="127.0.0.2") as site:
        for address in ("127.0.0.1", "127.0.0.2"):
            transport = httpx.HTTPTransport(local_address=address)
            with httpx.Client(transport=transport) as http:
                answer = http.get(f"{site.base}/about?{address}", headers=sent)
                assert ("Strict-Transport-Security" in answer.headers) == (address == "127.0.0.2")
        for by in ("nginx", "access"):
            (stranger,) = site.wrote("/about?127.0.0.1", by)
            (proxied,) = site.wrote("/about?127.0.0.2", by)
            assert (stranger["client"], stranger["scheme"]) == ("127.0.0.1", "http")
            assert (proxied["client"], proxied["scheme"]) == ("203.0.113.9", "https")


def test_the_rehearsal_is_production_on_this_machine(
    installed: Project, tmp_path: Path, tab: Tab
) -> None:
    """As a developer starts it, but for the port; and nginx's error page is seen."""
    port = free_port()
    base = f"http://localhost:{port}"
    command = [*UNPRIVILEGED, "make", "rehearse"]

    def ready() -> bool:
        try:
            return httpx.get(f"{base}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    log, path = tmp_path / "log", installed.path
    with started(command, log, ready, path, LISTEN_PORT=str(port)) as server:
        tab.page.goto(base)
        tab.page.locator("#live").get_by_text("Live").wait_for()
        assert tab.wrong == []
        reloaded = installed.make("reload")
        assert "site:app: signalled" in reloaded.stdout
        stop = [installed.bin / "supervisorctl", "-c", "run/supervisord.conf", "stop", "site:app"]
        subprocess.run(stop, cwd=path, check=True, capture_output=True)
        answer = tab.page.goto(f"{base}/about")
        assert answer is not None
        assert answer.status == 502
        tab.page.get_by_role("heading", name="The service cannot be reached").wait_for()
        tab.page.screenshot(path=tmp_path / "error.png")
        assert answer.headers["x-request-id"] in tab.page.content()
        assert server.stop() in {0, -2, 2}
    assert re.search(r'"logger":"access"', log.read_text())
