"""Hostile requests, generated with Hypothesis, sent to a running server."""

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from conftest import ROOT, TIMEOUT, Project, Site, client, serving, sign_in, standalone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

pytestmark = pytest.mark.xdist_group("hostile")  # the tests share a server

set_hypothesis_home_dir(ROOT / ".cache/hypothesis")

HOSTILE = settings(
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def attacked(
    installed: Project, account: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, bytes]]:
    """Run a server that trusts our forwarded headers; yield it and a signed-in client's headers."""
    folder = tmp_path_factory.mktemp("hostile")
    environment = {
        "TRUSTED_PROXIES": "127.0.0.1",
        "CORS_ORIGINS": "https://app.example.com",
        "MAX_UPLOAD_SIZE": "64KiB",
    }
    with serving(installed, folder, account, standalone, **environment) as site, client() as http:
        sign_in(http, site.base)
        cookie = f"Cookie: session={http.cookies['session']}\r\n"
        yield site, f"Origin: {site.base}\r\n{cookie}".encode()


@pytest.fixture(autouse=True)
def unharmed(attacked: tuple[Site, bytes]) -> Iterator[None]:
    """Check after each test that the server is alive, logged no error, and has no stray files."""
    site, _ = attacked
    before = len(site.errors())
    yield
    with client() as http:
        assert http.get(f"{site.base}/livez").json()["status"] == "alive"
    assert site.server.group() == [site.server.process.pid]
    assert site.errors()[before:] == []
    folder = site.uploads.parent
    found = [
        os.path.relpath(Path(path) / name, folder)
        for path, _, names in os.walk(folder)
        for name in names
    ]
    ours = re.compile(r"log|uploads/files/[0-9a-f]{32}/(content|record\.json)")
    assert [name for name in found if not ours.fullmatch(name)] == []
    assert site.incoming() == []


def ask(site: Site, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """Send a request (``head`` lacks the empty line). Return the status and the whole response."""
    answer = b""
    with socket.create_connection(("127.0.0.1", site.port), timeout=TIMEOUT) as connection:
        try:
            connection.sendall(head + b"Connection: close\r\n\r\n" + body)
            while data := connection.recv(65536):
                answer += data
        except ConnectionError:  # the server responded to a part of the request
            pass
    final = re.match(rb"(?:HTTP/1\.1 1.*?\r\n\r\n)*HTTP/1\.[01] ([0-9]{3}) ", answer, re.DOTALL)
    assert final, answer
    return int(final[1]), answer


def is_not_a_server_error(status: int) -> bool:
    return 200 <= status < 500


def without(unwanted: bytes, size: int) -> st.SearchStrategy[bytes]:
    """Return a strategy for any bytes except the unwanted ones."""
    return st.binary(max_size=size).map(lambda data: data.translate(None, unwanted))


def among(*groups: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from([value for group in groups for value in group])


CONTROLS = bytes(range(32)) + b"\x7f"
any_text = st.text(st.characters(exclude_categories=()), max_size=300)  # with lone surrogates
file_names = st.one_of(
    any_text.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=300),
    among(
        [
            b"../../../etc/passwd",
            b"..\\..\\boot.ini",
            b"/etc/passwd",
            b"C:\\a",
            b".",
            b"..",
            b"...",
        ],
        [b"a\0.txt", b"a\r\nX-Evil: 1", b'a"; name="b', b"%2e%2e%2fa", b"CON", b"aux.txt", b" "],
        [b"x" * 5000, "ü".encode() * 200, b"a." + b"b" * 400, "\u202egpj.exe".encode()],
    ),
)


@HOSTILE
@given(name=file_names, parameter=st.sampled_from([b'filename="%s"', b"filename*=UTF-8''%s"]))
def test_hostile_file_name_is_made_safe_or_refused(
    attacked: tuple[Site, bytes], name: bytes, parameter: bytes
) -> None:
    site, own = attacked
    disposition = b'Content-Disposition: form-data; name="file"; ' + parameter.replace(b"%s", name)
    form = b"--b\r\n" + disposition + b"\r\n\r\ncontent\r\n--b--\r\n"
    head = b"POST /admin/files/ HTTP/1.1\r\nHost: localhost:%d\r\n" % site.port
    head += own.replace(b"127.0.0.1", b"localhost")
    kind = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n" % len(form)
    status, answer = ask(site, head + kind, form)
    assert status in {201, 400, 413}
    page = b"GET /admin/files/ HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n" + own
    assert ask(site, page)[0] == 200
    if status == 201:
        record = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert record["size"] == len(b"content")
        assert 0 < len(record["name"].encode()) <= 255
        assert not re.search(r"[\x00-\x1f\x7f/\\:]", record["name"])
        file = f"GET /admin/files/{record['id']} HTTP/1.1\r\nHost: localhost\r\n".encode() + own
        status, answer = ask(site, file)
        assert status == 200
        headers, _, content = answer.partition(b"\r\n\r\n")
        assert content == b"content"
        assert b"\r\nContent-Disposition: attachment; filename=" in headers
        assert b"X-Evil" not in headers


paths = among(
    [b"/", b"/about", b"/static/site.css", b"/favicon.ico", b"/livez", b"/readyz", b"/nowhere"],
    [b"/admin", b"/admin/", b"/admin/login", b"/admin/files/", b"/admin/files/%s" % (b"0" * 32)],
)
methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"PUT", b"DELETE", b"TRACE", b"X"])
token = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}")
header_names = st.one_of(
    among(
        [b"Host", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Request-ID"],
        [b"Origin", b"Referer", b"Sec-Fetch-Site", b"Cookie", b"Content-Type", b"Accept"],
        [b"Accept-Encoding", b"Range", b"If-Range", b"If-None-Match", b"If-Modified-Since"],
        [b"Expect", b"User-Agent", b"Authorization", b"Access-Control-Request-Method"],
        [b"Access-Control-Request-Headers", b"Upgrade", b"Content-Encoding"],
    ),
    st.from_regex(token, fullmatch=True),
)
header_values = st.one_of(
    without(b"\r\n", 100),
    without(CONTROLS, 100),
    among(
        [
            b"",
            b",",
            b"a,b",
            b"null",
            b"*",
            b"http://[",
            b"http://a:99999",
            b"http://a@b\\c",
            b"[::1",
        ],
        [b"a b", b"localhost:99999", b"[::1]:80", b"xn--", b"\xff", b"\xc3\xbc.example"],
        [b"203.0.113.1", b"::1%eth0", b"::ffff:1.2.3.4", b"unix", b"1.2.3.4:5", b"[::1]:x"],
        [b"https", b"HTTPS, http", b"wss", b"websocket", b"100-continue", b"200-maybe"],
        [b"bytes=0-", b"bytes=-0", b"bytes=9-1", b"bytes=a-b", b"bytes=0-1,3-4", b"x=%d" % 10**50],
        [
            b"text/html;q=nan",
            b"text/html;q=-1",
            b"*/*;q=1e999",
            b"gzip;q=\xff",
            b"br;;;",
            b"text/",
        ],
        [
            b'W/"',
            b'"',
            b'W/"a',
            b"*,*",
            b"Mon, 99 Foo 99999 99:99:99 GMT",
            b"session=",
            b"session",
        ],
        [
            b"session=gAAAAA==; session=x",
            b'session="',
            b"__Host-session=a",
            b"multipart/form-data",
        ],
        [b"x" * 8000, b"text/plain; charset=none", b"application/json; charset=\xff", b"deflate"],
    ),
)


@HOSTILE
@given(
    method=methods,
    path=paths,
    headers=st.lists(st.tuples(header_names, header_values), min_size=1, max_size=5),
    signed_in=st.booleans(),
)
def test_hostile_headers_cause_no_server_error(
    attacked: tuple[Site, bytes],
    method: bytes,
    path: bytes,
    headers: list[tuple[bytes, bytes]],
    signed_in: bool,
) -> None:
    site, own = attacked
    head = method + b" " + path + b" HTTP/1.1\r\n"
    if not any(name.lower() == b"host" for name, _ in headers):
        head += b"Host: localhost\r\n"
    for name, value in headers:
        head += name + b": " + value + b"\r\n"
    status, _ = ask(site, head + (own if signed_in else b""))
    assert is_not_a_server_error(status)


hosts = st.one_of(
    without(b"\r\n", 60),
    without(CONTROLS, 20),
    any_text.map(lambda text: re.sub("[\r\n]", "", text).encode("utf-8", "surrogatepass")),
    among([b"localhost", b"example.com", b"[::1]", b"localhost.", b"localhost:0", b"a@b"]),
)


@HOSTILE
@given(name=st.sampled_from([b"Host", b"X-Forwarded-Host"]), host=hosts, path=paths)
def test_hostile_host_causes_no_server_error(
    attacked: tuple[Site, bytes], name: bytes, host: bytes, path: bytes
) -> None:
    site, _ = attacked
    head = b"GET " + path + b" HTTP/1.1\r\nAccept: text/html\r\n" + name + b": " + host + b"\r\n"
    status, _ = ask(site, head + (b"" if name == b"Host" else b"Host: localhost\r\n"))
    assert is_not_a_server_error(status)


targets = st.tuples(
    among(
        [
            b"",
            b"/",
            b"//",
            b"/static/",
            b"/static/site.css?v=",
            b"/admin/",
            b"/admin/files/",
            b"/?",
        ],
        [
            b"/admin/login?next=",
            b"/admin/login?next=/admin/",
            b"/admin/files/?before=",
            b"http://",
        ],
    ),
    st.one_of(
        without(b"\r\n", 100),
        st.binary(max_size=100).map(lambda data: quote_from_bytes(data).encode()),
        any_text.map(lambda text: text.encode("utf-8", "surrogatepass").translate(None, b"\r\n")),
        among(
            [
                b"../../../../etc/passwd",
                b"..%2f..%2fsettings.py",
                b"%00",
                b"%",
                b"%zz",
                b"a" * 9000,
            ],
            [b"http://[", b"//evil.example/admin/", b"a:99999/", b"[::1/", b"?" * 50, b"#", b"*"],
        ),
    ),
).map(b"".join)


@HOSTILE
@given(method=methods, target=targets, signed_in=st.booleans())
@example(method=b"OPTIONS", target=b"*", signed_in=False)
@example(method=b"CONNECT", target=b"localhost:80", signed_in=False)
def test_hostile_target_causes_no_server_error_file_disclosure_or_redirect(
    attacked: tuple[Site, bytes], method: bytes, target: bytes, signed_in: bool
) -> None:
    site, own = attacked
    head = method + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n"
    status, answer = ask(site, head + (own if signed_in else b""))
    assert is_not_a_server_error(status)
    assert b"root:x:0" not in answer
    assert b"\r\nLocation: //" not in answer


media_types = st.one_of(
    st.just(b"application/x-www-form-urlencoded"),
    st.just(b"application/x-www-form-urlencoded"),
    among(
        [
            b"application/x-www-form-urlencoded",
            b"application/x-www-form-urlencoded; charset=utf-16",
        ],
        [b"application/x-www-form-urlencoded; charset=none", b"multipart/form-data; boundary=b"],
        [b"application/x-www-form-urlencoded; charset=hex", b"multipart/form-data", b"text/plain"],
        [b"multipart/form-data; boundary=" + b"b" * 100, b"multipart/mixed; boundary=b", b""],
    ),
    without(b"\r\n", 40),
)
fields = st.lists(
    st.tuples(
        st.sampled_from([b"name", b"password", b"name[]", b"", b"file"]),
        st.one_of(
            st.binary(max_size=60),
            st.binary(max_size=60).map(lambda data: quote_from_bytes(data).encode()),
            st.sampled_from([b"ada", b"%00", b"%ed%a0%80", b"%", b"+", b"=", b"a" * 5000]),
        ),
    ).map(b"=".join),
    max_size=4,
).map(b"&".join)


@HOSTILE
@given(
    media_type=media_types,
    form=st.one_of(fields, st.binary(max_size=300)),
    client=st.ip_addresses(),
    coding=st.sampled_from([b"", b"", b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n"]),
)
def test_hostile_login_form_is_a_client_error_and_signs_nobody_in(
    attacked: tuple[Site, bytes], media_type: bytes, form: bytes, client: object, coding: bytes
) -> None:
    site, _ = attacked
    head = b"POST /admin/login HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n"
    head += b"X-Forwarded-For: " + str(client).encode() + b"\r\n" + coding
    head += b"Content-Type: " + media_type + b"\r\nContent-Length: %d\r\n" % len(form)
    status, answer = ask(site, head, form)
    assert 400 <= status < 500
    assert b"gAAAA" not in answer  # nobody was signed in


parts = st.lists(
    st.tuples(
        st.sampled_from([b"--b\r\n", b"--b\r\n", b"--b\r\n", b"--b", b"--c\r\n", b"\r\n", b""]),
        among(
            [b'Content-Disposition: form-data; name="file"; filename="a"\r\n'] * 3,
            [b'Content-Disposition: form-data; name="file"\r\n', b"Content-Disposition: \xff\r\n"],
            [b"Content-Disposition: form-data; filename*=none''%ff; name=\"file\"\r\n", b""],
        ),
        among(
            [
                b"",
                b"",
                b"Content-Length: -1\r\n",
                b"Content-Length: 3\r\n",
                b"Content-Length: x\r\n",
            ],
            [
                b"Content-Type: multipart/mixed\r\n",
                b"Content-Type: multipart/mixed; boundary=b\r\n",
            ],
            [b"Content-Transfer-Encoding: base64\r\n", b"Content-Encoding: gzip\r\n", b"x\r\n"],
            [b"X: " + b"y" * 9000 + b"\r\n", b"X: y\r\n" * 200, b" folded\r\n", b"a\0: b\r\n"],
        ),
        st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b""]),
        st.one_of(st.binary(max_size=300), st.just(b"x" * 70_000)),
        st.sampled_from([b"\r\n", b"\r\n", b"\r\n--b--\r\n", b"\r\n--b--", b""]),
    ).map(b"".join),
    max_size=3,
).map(b"".join)


@HOSTILE
@given(
    form=parts,
    end=st.sampled_from([b"--b--\r\n", b"--b--\r\n", b"--b--", b"--b", b""]),
    framing=st.sampled_from([b"Content-Length: %d\r\n", b"Transfer-Encoding: chunked\r\n"]),
    chunked=st.booleans(),
)
def test_hostile_upload_form_is_stored_or_refused(
    attacked: tuple[Site, bytes], form: bytes, end: bytes, framing: bytes, chunked: bool
) -> None:
    site, own = attacked
    form += end
    if b"%d" in framing:
        framing %= len(form)
    elif chunked:
        form = b"%x\r\n%b\r\n0\r\n\r\n" % (len(form), form) if form else b"0\r\n\r\n"
    head = b"POST /admin/files/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % site.port
    kind = b"Content-Type: multipart/form-data; boundary=b\r\n"
    status, _ = ask(site, head + own + kind + framing, form)
    assert status in {201, 400, 408, 413}
