"""nginx at the edge: TLS, slow clients, and another proxy in front."""

import asyncio
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from conftest import (
    PRODUCTION,
    TIMEOUT,
    Project,
    Server,
    Tab,
    clean_environment,
    client,
    free_port,
    started,
    upload,
)
from needs import needs
from stack import UNPRIVILEGED, Stack, stack, talk
from workers import run

pytestmark = [
    needs("nginx", "openssl", "user namespaces"),
    pytest.mark.xdist_group("edge"),  # which share two stacks
]

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
)
"""Of Mozilla's intermediate profile 5.7, for TLS 1.2."""


@pytest.fixture(scope="module")
def tls(installed: Project, account: str) -> Iterator[tuple[Stack, int]]:
    """The project behind TLS, with the certificate that ``make certs`` makes, and the port of TLS."""
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


@pytest.fixture(scope="module")
def behind_a_proxy(installed: Project) -> Iterator[Stack]:
    """The project without TLS, which trusts a proxy in front."""
    with stack(installed, "gunicorn", TRUSTED_PROXIES="127.0.0.2") as site:
        yield site


def trusting(site: Stack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=site.project.path / "certs/localhost.pem")


def test_plain_http_redirects_to_tls_and_serves_acme_challenges(tls: tuple[Stack, int]) -> None:
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


def test_pages_and_files_are_served_over_tls_and_http2(tls: tuple[Stack, int]) -> None:
    site, port = tls
    with httpx.Client(verify=trusting(site), trust_env=False, timeout=TIMEOUT) as http:
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


def test_admin_and_websocket_work_over_tls(tls: tuple[Stack, int]) -> None:
    site, port = tls
    base = f"https://localhost:{port}"
    content = os.urandom(10 * 1024**2)
    with httpx.Client(verify=trusting(site), trust_env=False, timeout=TIMEOUT) as http:
        path = upload(http, base, content)
        (cookie,) = http.cookies.jar
        assert (cookie.name, cookie.secure) == ("__Host-session", True)
        answer = http.get(base + path)
        assert answer.content == content
        assert answer.headers["Server"] == "nginx"
    assert run(talk(base, trusting(site))) == {"type": "pong"}


def handshake(port: int, *options: str) -> str | None:
    """Return the report of openssl about a connection; None if there is no connection."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=TIMEOUT)
    return done.stdout if done.returncode == 0 else None


def accepted(port: int) -> dict[str, str]:
    """Return every cipher for TLS 1.2 that the server accepts, with the report of openssl.

    All are offered; the one that the server has chosen is not offered the next time.
    """
    found: dict[str, str] = {}
    while True:
        offered = ":".join(["ALL", *(f"!{name}" for name in found), "@SECLEVEL=0"])
        report = handshake(port, "-tls1_2", "-cipher", offered)
        if report is None:
            return found
        chosen = re.search(r"Cipher is (\S+)", report)
        assert chosen, report
        found[chosen[1]] = report


def test_tls_has_mozillas_profile_with_an_ecdsa_key(tls: tuple[Stack, int]) -> None:
    """Exactly its ciphers and curves are accepted, as far as they go with the key."""
    _, port = tls
    assert set(accepted(port)) == {name for name in CIPHERS.split(":") if "ECDSA" in name}
    for curve in ("X25519", "prime256v1", "secp384r1"):
        assert handshake(port, "-tls1_3", "-groups", curve) is not None
    for curve in ("X448", "secp521r1"):
        assert handshake(port, "-tls1_3", "-groups", curve) is None
    for old in ("-tls1", "-tls1_1"):
        assert handshake(port, old, "-cipher", "ALL:@SECLEVEL=0") is None


@contextmanager
def nginx_alone(project: Project, folder: Path, port: int, **environment: str) -> Iterator[Server]:
    """Run nginx as the project configures it, with nothing behind it."""
    files = ["nginx/nginx.conf", "nginx/site.conf"]
    variables = {"RUN_FOLDER": str(folder), "SERVICE_USER": getuser(), **environment}
    subprocess.run(
        [project.bin / "python", "deploy/render.py", *files, folder],
        cwd=project.path,
        env=clean_environment(**PRODUCTION, **variables),
        check=True,
    )
    command = ["nginx", "-e", "stderr", "-c", f"{folder}/nginx.conf"]
    ready = lambda: handshake(port) is not None  # noqa: E731
    with started(command, folder / "log", ready, folder) as server:
        yield server


def test_tls_has_mozillas_profile_with_an_rsa_key(installed: Project, tmp_path: Path) -> None:
    """The other half of the ciphers is accepted, and DHE has the group of RFC 7919."""
    pair = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*make, *pair], check=True, capture_output=True)
    port = free_port()
    variables = {
        "TLS_CERTIFICATE": str(tmp_path / "cert.pem"),
        "TLS_KEY": str(tmp_path / "key.pem"),
        "TLS_PORT": str(port),
        "LISTEN_ADDRESS": "127.0.0.1",
        "LISTEN_PORT": str(free_port()),
    }
    with TemporaryDirectory() as run, nginx_alone(installed, Path(run), port, **variables):
        found = accepted(port)
    assert set(found) == {name for name in CIPHERS.split(":") if "ECDSA" not in name}
    for name, report in found.items():
        assert ("Server Temp Key: DH, 2048 bits" in report) == name.startswith("DHE"), report


SLOW = 1000


class SlowClients:
    """Clients that never finish a request, and connect again whenever they are disconnected."""

    def __init__(self) -> None:
        self.connected: set[int] = set()
        self.disconnected: set[int] = set()
        """Those that were disconnected at least once."""

    async def _connect(self, number: int, port: int, begun: bytes, drips: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.connected.add(number)

        async def drip() -> None:
            while drips:
                await asyncio.sleep(0.5)
                writer.write(b"x")

        writer.write(begun)
        dripping = asyncio.create_task(drip())
        try:
            while await reader.read(4096):
                pass
        finally:
            dripping.cancel()
            writer.close()
            self.connected.discard(number)
            self.disconnected.add(number)

    async def client(self, number: int, port: int, begun: bytes, drips: bool = False) -> None:
        """Occupy a connection for ever, with the beginning of a request."""
        while True:
            with suppress(ConnectionError):
                await self._connect(number, port, begun, drips)
            await asyncio.sleep(0.05)


async def occupy(plain: int, redirecting: int, tls: int) -> None:
    """Send slow clients to the ports of nginx until each was disconnected, and look at a page."""
    slow = SlowClients()
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    body = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    # A third is silent, a third drips a header, and a third stops in the middle of a body.
    kinds = [(plain, b"", False), (plain, head, True), (plain, body, False)] * (SLOW // 3)
    kinds += [(port, b"", False) for port in (redirecting, tls)]
    kinds += [(redirecting, head, False), (tls, b"\x16\x03", False)]
    everybody = set(range(len(kinds)))
    served = False
    async with (
        asyncio.timeout(TIMEOUT),
        httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http,
        asyncio.TaskGroup() as group,
    ):
        clients = [group.create_task(slow.client(each, *kinds[each])) for each in everybody]
        while not served or slow.disconnected < everybody:
            connected = slow.connected == everybody
            answer = await http.get(f"http://127.0.0.1:{plain}/about")
            assert answer.status_code == 200
            served = served or (connected and slow.connected == everybody)
            await asyncio.sleep(0.1)
        for each in clients:
            each.cancel()


def test_slow_clients_are_disconnected_and_pages_are_served_in_the_meantime(
    behind_a_proxy: Stack, tls: tuple[Stack, int]
) -> None:
    with_tls, port = tls
    for site in (behind_a_proxy, with_tls):
        for timeout in ("client_header_timeout", "client_body_timeout"):
            site.reconfigure_nginx(f"{timeout} 10s;", f"{timeout} 2s;")
    run(occupy(behind_a_proxy.port, with_tls.port, port))


def test_forwarded_headers_of_another_proxy_are_trusted_from_its_address_only(
    behind_a_proxy: Stack,
) -> None:
    site = behind_a_proxy
    sent = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    for address in ("127.0.0.1", "127.0.0.2"):
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport, timeout=TIMEOUT) as http:
            answer = http.get(f"{site.base}/about?{address}", headers=sent)
            assert ("Strict-Transport-Security" in answer.headers) == (address == "127.0.0.2")
    for by in ("nginx", "access"):
        (stranger,) = site.wrote("/about?127.0.0.1", by)
        (proxied,) = site.wrote("/about?127.0.0.2", by)
        assert (stranger["client"], stranger["scheme"]) == ("127.0.0.1", "http")
        assert (proxied["client"], proxied["scheme"]) == ("203.0.113.9", "https")


@needs("chromium")
def test_make_rehearse_serves_reloads_and_shows_nginxs_error_page(
    installed: Project, tmp_path: Path, tab: Tab
) -> None:
    """As a developer starts it, but for the port."""
    port = free_port()
    base = f"http://localhost:{port}"
    command = [*UNPRIVILEGED, "make", "rehearse"]

    def ready() -> bool:
        try:
            return httpx.get(f"{base}/readyz", trust_env=False, timeout=TIMEOUT).is_success
        except httpx.TransportError:
            return False

    log, path = tmp_path / "log", installed.path
    variables = {"LISTEN_PORT": str(port), "DRAIN_TIMEOUT": "1"}
    with started(command, log, ready, path, **variables) as server:
        tab.page.goto(base)
        tab.page.locator("#live").get_by_text("Live").wait_for()
        assert tab.wrong == []
        reloaded = installed.make("reload")
        assert "site:app: signalled" in reloaded.stdout
        control = [str(installed.bin / "supervisorctl"), "-c", "run/supervisord.conf"]
        subprocess.run([*control, "stop", "site:app"], cwd=path, check=True, capture_output=True)
        answer = tab.page.goto(f"{base}/about")
        assert answer is not None
        assert answer.status == 502
        tab.page.get_by_role("heading", name="The service cannot be reached").wait_for()
        tab.page.screenshot(path=tmp_path / "error.png")
        assert answer.headers["x-request-id"] in tab.page.content()
        assert server.stop() in {0, -2, 2}
    assert re.search(r'"logger":"access"', log.read_text())
