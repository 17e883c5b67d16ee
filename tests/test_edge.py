"""nginx at the edge: TLS, slow clients, and another proxy in front."""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from getpass import getuser
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from conftest import (
    PASSWORD,
    PRODUCTION,
    TIMEOUT,
    Project,
    Server,
    Tab,
    answers_at,
    clean_environment,
    client,
    free_port,
    started,
    upload,
    wait_for,
)
from documents import DEPLOY, sections
from needs import needs
from stack import UNPRIVILEGED, Stack, ask, beside, stack, talk
from workers import run

pytestmark = [
    needs("nginx", "openssl", "user namespaces"),
    pytest.mark.xdist_group("edge"),  # the tests share two stacks
]

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
)
"""Ciphers of Mozilla's intermediate profile 5.7 for TLS 1.2."""


@pytest.fixture(scope="module")
def tls(installed: Project, account: str) -> Iterator[tuple[Stack, int]]:
    """Run the project behind TLS, with a certificate of ``make certs``; yield its TLS port too."""
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
def behind_a_proxy(installed: Project, account: str) -> Iterator[Stack]:
    """Run the project without TLS; it trusts two proxies in front of it."""
    variables = {"TRUSTED_PROXIES": "127.0.0.2,127.0.0.3", "ADMIN_USERS": account}
    with stack(installed, "gunicorn", **variables) as site:
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
    """Return openssl's report of a connection, or None if it cannot connect."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=TIMEOUT)
    return done.stdout if done.returncode == 0 else None


def accepted(port: int) -> dict[str, str]:
    """Return every TLS 1.2 cipher that the server accepts, with openssl's report.

    The client offers all ciphers, and then leaves out each one that the server has chosen.
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
    """The server accepts exactly the ciphers and curves of the profile that this key supports."""
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
    """Run nginx as the project configures it, without a backend and with a port for TLS."""
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
    """The server accepts the other half of the ciphers, and DHE uses the group of RFC 7919."""
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
    """Clients that never finish a request, and reconnect whenever they are disconnected."""

    def __init__(self) -> None:
        self.connected: set[int] = set()
        self.disconnected: set[int] = set()
        """Numbers of the clients that were disconnected at least once."""

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
        """Occupy a connection forever with an incomplete request."""
        while True:
            with suppress(ConnectionError):
                await self._connect(number, port, begun, drips)
            await asyncio.sleep(0.05)


async def occupy(plain: int, redirecting: int, tls: int) -> None:
    """Run slow clients on nginx's ports until each was disconnected, and load a page."""
    slow = SlowClients()
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    body = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    # A third is silent, a third sends a header slowly, and a third stops in the middle of a body.
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


CHAIN = "203.0.113.9, 127.0.0.3"
"""Value for a client behind two proxies: 127.0.0.3, and the peer, 127.0.0.2."""


@pytest.mark.parametrize(
    ("sent", "scheme"),
    [
        ([("For", CHAIN), ("Proto", "https,http")], "https"),
        ([("For", CHAIN), ("Proto", "HTTPS\t,, http ,")], "https"),
        ([("For", CHAIN), ("Proto", "https")], "https"),
        ([("For", CHAIN), ("Proto", "gopher, https, http")], "https"),
        ([("For", CHAIN), ("Proto", "https, gopher, http")], None),
        ([("For", CHAIN), ("Proto", "gopher")], None),
        ([("For", "203.0.113.9"), ("For", "127.0.0.3"), ("Proto", "wss, ws")], "https"),
        ([("For", "203.0.113.9"), ("Proto", "https,http")], "http"),
        ([("For", CHAIN), ("Host", "localhost, inner")], "http"),
        ([("For", "203.0.113.9"), ("Host", "evil.example, localhost")], "http"),
        ([("For", CHAIN), ("Host", "evil.example")], 421),
        ([("For", CHAIN), ("Host", "ex ample")], None),
        ([("For", "unknown, 203.0.113.9")], "http"),
        ([("For", "203.0.113.9, unknown")], None),
        ([("For", CHAIN), ("Proto", ","), ("Host", ",")], "http"),
        ([("For", "127.0.0.3"), ("Proto", "https,http")], "https"),
    ],
)
def test_forwarded_lists_are_read_alike_directly_and_through_nginx(
    sent: list[tuple[str, str]], scheme: str | int | None, behind_a_proxy: Stack
) -> None:
    """Lists are read from the right through trusted proxies; elements that count must be valid."""
    site = behind_a_proxy
    headers = [(f"X-Forwarded-{name}", value) for name, value in sent]
    through = httpx.HTTPTransport(local_address="127.0.0.2")
    directly = httpx.HTTPTransport(uds=str(site.run / "sockets/app.sock"))
    found = []
    for transport in (through, directly):
        with httpx.Client(transport=transport, timeout=TIMEOUT) as http:
            answer = http.get(f"{site.base}/client", headers=headers)
            found.append(answer.json() if answer.is_success else answer.status_code)
    assert found[0] == found[1]
    if isinstance(found[0], list):
        assert found[0][1] == scheme
    else:
        assert found[0] == (scheme or 400)


def test_sign_in_works_behind_a_chain_of_proxies_that_append(behind_a_proxy: Stack) -> None:
    site = behind_a_proxy
    form = {"name": "ada", "password": PASSWORD}
    headers = {
        "Origin": f"https://127.0.0.1:{site.port}",
        "X-Forwarded-For": CHAIN,
        "X-Forwarded-Proto": "https, http",
    }
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=transport, timeout=TIMEOUT, headers=headers) as http:
        answer = http.post(f"{site.base}/admin/login", data=form)
    assert answer.status_code == 303
    assert "; Secure" in answer.headers["Set-Cookie"]


def test_request_id_of_a_trusted_proxy_is_kept_by_nginx(behind_a_proxy: Stack) -> None:
    site = behind_a_proxy
    for address, name in (("127.0.0.2", "of-the-proxy"), ("127.0.0.1", "of-a-stranger")):
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport, timeout=TIMEOUT) as http:
            sent = {"X-Request-ID": name}
            page = http.get(f"{site.base}/about?id={address}", headers=sent)
            error = http.get(f"{site.base}/about", headers=sent | {"Host": "evil.example"})
        for answer in (page, error):
            assert (answer.headers["X-Request-ID"] == name) == (name == "of-the-proxy")
        assert error.json()["request_id"] == error.headers["X-Request-ID"]
        for by in ("nginx", "access"):
            (line,) = site.wrote(f"/about?id={address}", by)
            assert line["request_id"] == page.headers["X-Request-ID"]


def test_host_that_is_not_allowed_gets_421_on_every_port_and_path(
    behind_a_proxy: Stack, tls: tuple[Stack, int]
) -> None:
    with_tls, port = tls
    places: list[tuple[int, ssl.SSLContext | None]] = [
        (behind_a_proxy.port, None),
        (with_tls.port, None),  # redirects
        (port, trusting(with_tls)),
    ]
    challenge = "/.well-known/acme-challenge/x"
    for (address, context), path, name in product(
        places,
        ("/", "/static/site.css", "/admin/files/", "/_files/x", challenge, "//livez", "/livez/x"),
        ("evil.example", "example.com.evil.example", "x.localhost", "127.0.0.2"),
    ):
        head = f"GET {path} HTTP/1.1\nHost: {name}\nAccept: text/html\n"
        status, headers, text = ask(address, head, context=context)
        assert status == 421, (address, path, name)
        assert headers["X-Request-ID"] in text
    for address, context in places:
        head = "GET http://evil.example/static/site.css HTTP/1.1\nHost: localhost\n"
        assert ask(address, head, context=context)[0] == 421


def test_host_and_port_in_the_target_replace_those_of_the_header(
    behind_a_proxy: Stack, tls: tuple[Stack, int]
) -> None:
    with_tls, port = tls
    for address, context in ((behind_a_proxy.port, None), (port, trusting(with_tls))):
        site = f"{'https' if context else 'http'}://localhost:81"
        for origin, status in ((site, 200), ("http://evil.example", 403)):
            head = f"POST {site}/echo HTTP/1.1\nHost: evil.example\nOrigin: {origin}\n"
            assert ask(address, f"{head}Content-Length: 0\n", context=context)[0] == status


def test_probes_are_answered_under_any_name_and_without_one(
    behind_a_proxy: Stack, tls: tuple[Stack, int]
) -> None:
    with_tls, port = tls
    for address, context in (
        (behind_a_proxy.port, None),
        (with_tls.port, None),
        (port, trusting(with_tls)),
    ):
        for path, head in product(
            ("/livez", "/readyz"),
            ("HTTP/1.0\n", "HTTP/1.0\nHost: 10.1.2.3\n", "HTTP/1.1\nHost: evil.example:80\n"),
        ):
            for method in ("GET", "HEAD"):
                status, _, text = ask(address, f"{method} {path} {head}", context=context)
                assert status == 200, (address, path, head)
                assert ('"status"' in text) == (method == "GET")
    assert ask(behind_a_proxy.run / "sockets/app.sock", "GET /livez HTTP/1.0\n")[0] == 200


NOT_TEXT = ["caf\udce9", "\udcff", "a\udcc3", "\udced\udca0\udc80", "\udcc0\udcaf", "\udcf5"]
"""Bytes that are not UTF-8: truncated, a surrogate, overlong, too large."""
CONTROLS = ["\x7f", "\x9b31m", "a\u202eb", "\u2028", "\ufeff", "\U000e0041"]


def test_log_of_nginx_is_json_and_free_of_control_characters_whatever_is_sent(
    behind_a_proxy: Stack,
) -> None:
    site = behind_a_proxy
    texts = [*NOT_TEXT, *CONTROLS, "\t", '"', "\\", "größe"]
    for number, text in enumerate(texts):
        for name in ("User-Agent", "Referer", "Host", "X-Forwarded-For", "X-Request-ID"):
            host = "" if name == "Host" else "Host: localhost\n"
            ask(site.port, f"GET /static/site.css?{number}{name} HTTP/1.1\n{host}{name}: {text}\n")
        # nginx would quote these in its error log.
        ask(site.port, f"GET /static/%0a%1b%c2%9b HTTP/1.1\nHost: localhost\nReferer: {text}\n")
        ask(site.port, f"GET /static/site.css?{number}{text} HTTP/1.1\nHost: localhost\n")
    ask(site.port, "GET /static/site.css?last HTTP/1.1\nHost: localhost\n")
    site.wrote("/static/site.css?last", "nginx")
    logged = site.server.log.read_bytes()
    assert all(line.isprintable() for line in logged.decode().split("\n"))
    all_lines = list(map(json.loads, logged.splitlines()))
    lines = [line for line in all_lines if line["logger"] == "nginx"]
    for line in lines:
        for value in line.values():
            assert not re.search(
                "[\x00-\x08\x0a-\x1f\x7f-\x9f\u202e\u2028\ufeff\U000e0041]", str(value)
            )
    agents = {line["path"].partition("?")[2]: line["user_agent"] for line in lines}
    assert agents["0User-Agent"] == "caf..."
    assert agents[f"{len(texts) - 1}User-Agent"] == "gr..."
    assert agents[f"{len(texts) - 2}User-Agent"] == "\\"
    assert "pcre" not in site.server.output()


def test_link_among_uploads_is_not_followed(behind_a_proxy: Stack, tmp_path: Path) -> None:
    """Links are not followed, whether they replace a file or its folder."""
    site = behind_a_proxy
    (tmp_path / "content").write_text("a file of somebody else")
    with client() as http:
        path = upload(http, site.base, b"ours")
        kept = site.uploads / "files" / path.rpartition("/")[2]
        assert http.get(site.base + path).content == b"ours"
        (kept / "content").rename(kept / "before")
        (kept / "content").symlink_to(tmp_path / "content")
        refused = http.get(site.base + path, headers={"Accept": "text/html"})
        (kept / "content").unlink()
        (kept / "before").rename(kept / "content")
        kept.rename(moved := tmp_path / "moved")
        kept.symlink_to(moved)
        both = [refused, http.get(site.base + path)]
        kept.unlink()
        moved.rename(kept)
        assert http.get(site.base + path).content == b"ours"
    assert all(answer.status_code in {403, 404} for answer in both)
    assert not any(b"somebody else" in answer.content for answer in both)
    assert refused.headers["X-Request-ID"] in refused.text


LONG = "x" * 9000
HOST = "Host: localhost\nAccept: text/html\n"
ACME = "/.well-known/acme-challenge"
CSS = f"GET /static/site.css HTTP/1.1\n{HOST}"
ERRORS = {
    "no host": (400, "GET / HTTP/1.1\nAccept: text/html\n"),
    "two hosts": (400, f"GET / HTTP/1.1\n{HOST}{HOST}"),
    "bad length": (400, f"POST / HTTP/1.1\n{HOST}Content-Length: x\n"),
    "two framings": (
        400,
        f"POST / HTTP/1.1\n{HOST}Content-Length: 1\nTransfer-Encoding: chunked\n",
    ),
    "no request": (400, "nonsense\n"),
    "a link": (403, f"GET {ACME}/link HTTP/1.1\n{HOST}"),
    "a folder": (403, f"GET {ACME}/folder/ HTTP/1.1\n{HOST}"),
    "nothing there": (404, f"GET {ACME}/missing HTTP/1.1\n{HOST}"),
    "a location of nginx's own": (404, f"GET /_files/x HTTP/1.1\n{HOST}"),
    "another method": (405, f"POST {ACME}/token HTTP/1.1\n{HOST}Content-Length: 0\n"),
    "TRACE": (405, f"TRACE / HTTP/1.1\n{HOST}"),
    "another version": (412, f'{CSS}If-Match: "another"\n'),
    "changed since": (412, f"{CSS}If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\n"),
    "large body": (413, f"POST / HTTP/1.1\n{HOST}Content-Length: 99999999999\n"),
    "large upload": (413, f"POST /admin/files/ HTTP/1.1\n{HOST}Content-Length: 99999999999\n"),
    "long URL": (414, f"GET /{LONG} HTTP/1.1\n{HOST}"),
    "range beyond the end": (416, f"{CSS}Range: bytes=9999999-\n"),
    "another host": (421, "GET / HTTP/1.1\nAccept: text/html\nHost: evil.example\n"),
    "long header": (431, f"GET / HTTP/1.1\n{HOST}X: {LONG}\n"),
    "no file": (500, f"GET {ACME}/socket HTTP/1.1\n{HOST}"),
    "unknown coding": (501, f"POST / HTTP/1.1\n{HOST}Transfer-Encoding: gzip\n"),
    "nothing behind": (502, f"GET /about HTTP/1.1\n{HOST}"),
    "another HTTP": (505, f"GET / HTTP/4.0\n{HOST}"),
}
"""Requests that nginx itself rejects with an error, except those that take several requests."""


def assert_is_ours(answer: tuple[int, Message, str], status: int) -> None:
    """Assert that an error has the project's page, or its JSON document if Accept was not read."""
    found, headers, text = answer
    assert found == status, text
    assert headers["X-Request-ID"] in text
    assert len(headers.get_all("X-Request-ID", [])) == 1
    assert "no-store" in headers.get_all("Cache-Control", [])
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "nginx" not in text
    if headers.get_content_type() == "text/html":
        assert f"<title>Error {status}</title>" in text
        assert '<link rel="stylesheet" href="/static/site.css">' in text
    else:
        assert headers.get_content_type() == "application/problem+json"
        assert json.loads(text)["status"] == status


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Yield an empty folder whose path is short enough for a socket address."""
    with TemporaryDirectory() as name:
        yield Path(name)


def test_every_error_of_nginx_itself_has_the_page_of_the_project(
    installed: Project, short_path: Path
) -> None:
    installed.make("certs")
    port, plain = free_port(), free_port()
    folder = short_path / ACME.lstrip("/")
    (folder / "folder").mkdir(parents=True)
    (folder / "token").write_text("the token")
    (folder / "link").symlink_to(folder / "token")
    context = ssl.create_default_context(cafile=installed.path / "certs/localhost.pem")
    variables = {
        "TLS_CERTIFICATE": "certs/localhost.pem",
        "TLS_KEY": "certs/localhost.key",
        "TLS_PORT": str(port),
        "LISTEN_ADDRESS": "127.0.0.1",
        "LISTEN_PORT": str(plain),
        "ACME_FOLDER": str(short_path),
    }
    with (
        TemporaryDirectory() as name,
        socket.socket(socket.AF_UNIX) as not_a_file,
        socket.socket(socket.AF_UNIX) as silent,
        nginx_alone(installed, Path(name), port, **variables) as server,
    ):
        not_a_file.bind(str(folder / "socket"))
        for status, head in ERRORS.values():
            assert_is_ours(ask(port, head, context=context), status)
            # The other port redirects well-formed requests.
            found = ask(plain, head)
            if status in {400, 414, 421, 431, 501, 505} or ACME in head:
                assert_is_ours(found, status)
        assert_is_ours(ask(port, f"GET / HTTP/1.1\n{HOST}"), 400)  # without TLS
        login = f"POST /admin/login HTTP/1.1\n{HOST}Content-Length: 0\n"
        statuses = []
        while (answer := ask(port, login, context=context))[0] != 429:
            statuses.append(answer[0])
        assert set(statuses) == {502}
        assert_is_ours(answer, 429)
        # Next, something listens but never responds.
        silent.bind(f"{name}/sockets/app.sock")
        silent.listen()
        conf = Path(name, "site.conf")
        conf.write_text(
            conf.read_text().replace("proxy_read_timeout 75s;", "proxy_read_timeout 1s;")
        )
        old = set(server.group()) - {server.process.pid}
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: not old & set(server.group()), "nginx to have read that")
        assert_is_ours(ask(port, ERRORS["nothing behind"][1], context=context), 504)


def test_commands_for_a_rehearsal_of_tls_serve_it(installed: Project, tmp_path: Path) -> None:
    certs, rehearse, ask_for_one, *settings = sections(installed, DEPLOY)["TLS"]
    assert ask_for_one.startswith("certbot ")  # it contacts the servers of Let's Encrypt
    explained = (installed.path / ".env.example").read_text()
    assert settings
    assert all(f"{line.partition('=')[0]}=" in explained for line in settings)
    subprocess.run(certs, shell=True, cwd=installed.path, env=clean_environment(), check=True)
    context = ssl.create_default_context(cafile=installed.path / "certs/localhost.pem")
    port, tls_port = free_port(), free_port()
    base = f"https://localhost:{tls_port}"
    command = [*UNPRIVILEGED, "sh", "-c", rehearse]
    ports = {"LISTEN_PORT": str(port), "TLS_PORT": str(tls_port), "DRAIN_TIMEOUT": "1"}
    ready = answers_at(f"{base}/readyz")
    with started(command, tmp_path / "log", ready, installed.path, **ports) as server:
        with client() as http:
            answer = http.get(f"http://localhost:{port}/about")
        assert answer.headers["Location"] == f"{base}/about"
        assert httpx.get(f"{base}/about", verify=context, trust_env=False).status_code == 200
        server.stop()


@needs("browser")
def test_make_rehearse_serves_reloads_and_shows_nginxs_error_page(
    installed: Project, tmp_path: Path, tab: Tab
) -> None:
    """Started as a developer starts it, except for the port."""
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
        reload = [*beside(server), "make", "reload"]
        done = subprocess.run(
            reload, cwd=path, env=clean_environment(), stdout=subprocess.PIPE, text=True, check=True
        )
        said = r"all workers \(2\) are ready after [\d.]+ s\nreloaded after \d+ s\n"
        assert re.fullmatch(said, done.stdout)
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
