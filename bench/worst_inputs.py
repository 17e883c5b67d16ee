"""Send each parser of the baked application its worst input, and print the cost.

Inputs have at most 1 MiB. Each is compared with an ordinary request of the same size to the same
URL. To measure an existing project, give its folder as the argument; it must be installed.
"""

import json
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from gzip import compress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from run import BENCH, Variant, bake, run, serving

PROBE = "/_probe"
"""The route of probe.py."""
MOST_BLOCK = 50
"""Maximum time for which the event loop may be blocked, in milliseconds."""
MOST_RATIO = 20
"""Maximum ratio of an input's CPU time to that of an ordinary request."""

MEBIBYTE = 1024**2
FIELD = 8100
"""Size of a long header or URL, in bytes; the application accepts 8190."""
FIELDS = 4
"""Number of headers of that size that the application accepts; it rejects 115."""
REPEATS = 3
PASSWORD = "correct horse battery staple"
TOKEN = "a-token-of-the-benchmark-that-is-long-enough"
NUMBER = "0000000000"
"""Placeholder for a number that is new in each request, because rendered texts are cached."""
OTHER_SITE = b"https://app.example.com"
"""The origin in CORS_ORIGINS."""
CJK = "".join(map(chr, range(0x4E00, 0x4E00 + FIELD // 3 - 10)))
HOSTILE = {
    "marks": "\u0301\u0316",
    "U+0F73": "\u0f73",
    "U+0344": "\u0344",
    "U+0958": "\u0958",
    "U+1D160": "\U0001d160",
    "U+FDFA": "\ufdfa",
    "emoji": "\U0001f600",
}
"""Text that Unicode normalisation reorders, decomposes or makes longer."""
MARKDOWN = {
    **{"emphasis": "*a **a ", "emphasis, closed": "*a_ ", "strong": "***a", "both": "_*"},
    **{"brackets": "[", "images": "![", "links": "![[]()", "titles": '[a](b "c ', "code": "`a``"},
    **{"lists": "- a\n", "headings": "# a\n", "underlines": "a\n=\n", "lines": "a\n"},
    **{"entities": "&", "escapes": "\\*", "breaks": "\\\n", "HTML": "<", "CDATA": "<![CDATA["},
    **{"autolinks": "<a:b>", "fences": "```\n", "tables": "a|b\n-|-\n", "rules": "* * *\n"},
    **{"destinations": "[a](", "long destinations": "[a](" + "x" * 30, "paragraphs": "a\n\n"},
    **{"strong and images": "**![", "hosts": f"[a](http://{CJK[:240]}) ", "short links": "[a](b) "},
}
NESTED = ("[a](" + "x" * 300, "<a:b>", "`a` ", "\\*", "*a* ")
"""Contents of nested images, which are read at each level."""

Headers = tuple[tuple[str, bytes], ...]
Input = tuple[str, "Request", "Request"]
"""A name, the request, and an ordinary request."""


@dataclass(frozen=True)
class Request:
    """A request; each is sent by a new client."""

    method: str = "GET"
    target: bytes = b"/"
    headers: Headers = ()
    body: bytes = b""
    chunk: int = 0
    """Size of each chunk in bytes; 0 if the body is not sent in chunks."""
    frames: bytes = b""
    """Data that is sent after the WebSocket handshake."""
    own: bool = False
    """True if the site is its origin."""
    signed_in: bool = False
    token: bool = False
    then: bytes = b""
    """URL to request afterwards, which renders the saved text."""


def repeat(unit: bytes | str, size: int) -> bytes:
    """Return a unit repeated to at most ``size`` bytes."""
    data = unit.encode() if isinstance(unit, str) else unit
    return data * (size // len(data))


def header(name: str, unit: bytes, count: int = 1, **more: Any) -> Request:
    """Return a request with ``count`` copies of a long header."""
    return Request(headers=((name, repeat(unit, FIELD)),) * count, **more)


def post(target: bytes, kind: bytes, body: bytes, **more: Any) -> Request:
    """Return a request with a body."""
    return Request("POST", target, (("Content-Type", kind),), body, own=True, **more)


def form(target: bytes, fields: dict[str, str], **more: Any) -> Request:
    """Return a form request as a browser sends it."""
    return post(target, b"application/x-www-form-urlencoded", urlencode(fields).encode(), **more)


def sign_in(password: str) -> Request:
    """Return a login request."""
    return form(b"/admin/login", {"name": "ada", "password": password})


def upload(
    *,
    before: bytes = b"",
    name: bytes = b'filename="a"',
    head: bytes = b"",
    content: bytes = b"x",
    after: bytes = b"",
    chunk: int = 0,
) -> Request:
    """Return an upload request."""
    disposition = b'--b\r\nContent-Disposition: form-data; name="file"; ' + name + b"\r\n"
    body = before + disposition + head + b"\r\n" + content + b"\r\n--b--\r\n" + after
    kind = b"multipart/form-data; boundary=b"
    return post(b"/admin/files/", kind, body, chunk=chunk, signed_in=True)


def write(body: bytes, then: bytes = b"") -> Request:
    """Return a request of the JSON API."""
    return post(b"/api/news", b"application/json", body, token=True, then=then)


def news(fields: dict[str, str], then: bytes = b"") -> Request:
    """Return a request that creates a news item with the JSON API."""
    body = json.dumps({"title": "x", "body": "x"} | fields, ensure_ascii=False)
    return write(body.encode(), then)


def websocket(frame: bytes, first: bytes = b"") -> Request:
    """Return the request of a visitor who sends a frame repeatedly."""
    headers = (
        ("Upgrade", b"websocket"),
        ("Sec-WebSocket-Version", b"13"),
        ("Sec-WebSocket-Key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Sec-WebSocket-Protocol", b"live.v1"),
    )
    frames = first + repeat(frame, MEBIBYTE - len(first))
    return Request(target=b"/live", headers=headers, frames=frames, own=True)


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return a masked frame of a client."""
    return bytes([opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def urls() -> Iterator[Input]:
    """Yield requests with hostile URLs."""
    for name, path, unit in [
        ("URL: escapes", b"/", b"%41"),
        ("URL: parents", b"/", b"../"),
        ("URL: folders", b"/", b"a/"),
        ("URL: host of escapes", b"http://", b"%E5%AD%97"),
        ("static file: folders", b"/static/", b"a/"),
        ("static file: dots", b"/static/", b"./"),
        ("query: fields", b"/static/site.css?", b"a&"),
        ("query: before, digits", b"/news?before=", b"9"),
        ("query: version, digits", b"/api/news/1?version=", b"9"),
        ("query: next, CJK", b"/admin/login?next=http://", quote(CJK[:880]).encode()),
        ("query: next, parents", b"/admin/login?next=/admin/", b"../"),
    ]:
        target = path + repeat(unit, FIELD - len(path))
        method = "POST" if b"next" in path else "DELETE" if b"version" in path else "GET"
        same = Request(method, target, own=True, token=b"/api/" in path)
        if b"next" in path:
            same = replace(sign_in(PASSWORD), target=target)
        ordinary = (b"/" if path == b"http://" else path).ljust(len(target), b"x")
        yield name, same, replace(same, target=ordinary)
    for name, text in HOSTILE.items():
        target = b"/news/" + repeat(quote(text), FIELD)
        yield f"slug: {name}", Request(target=target), Request(target=b"/news/".ljust(FIELD, b"x"))


def headers() -> Iterator[Input]:
    """Yield requests with hostile headers, each to a URL whose handler reads it."""
    for name, unit, path in [
        ("Host", b"a.", b"/"),
        ("X-Forwarded-Host", b"a.", b"/"),
        ("X-Forwarded-For", b"127.0.0.1,", b"/"),
        ("X-Forwarded-For", b"::ffff:127.0.0.1,", b"/"),
        ("X-Forwarded-Proto", b"http,", b"/"),
        ("Accept", b"a,", b"/about"),
        ("Accept", b"a;q=0.5,", b"/nowhere"),
        ("Accept", b";", b"/about"),
        ("Accept-Encoding", b"a,", b"/static/site.css"),
        ("Cookie", b"a;", b"/admin/login"),
        ("Cookie", b"a=b;", b"/admin/login"),
        ("Cookie", b"@;", b"/admin/login"),
        ("Cookie", b'session="', b"/admin/login"),
        ("Cookie", b"session=gAAAAA", b"/admin/login"),
        ("If-None-Match", b'"a",', b"/static/site.css"),
        ("If-None-Match", b'W/"a", ', b"/news"),
        ("If-Match", b'"a",', b"/static/site.css"),
        ("If-Modified-Since", b"1 ", b"/static/site.css"),
        ("If-Range", b'"a",', b"/static/site.css"),
        ("Range", b"bytes=1-2,", b"/static/site.css"),
        ("Range", b"9", b"/static/site.css"),
        ("Authorization", b"Bearer x", b"/api/news"),
        ("Connection", b"a,", b"/"),
        ("Upgrade", b"a,", b"/"),
        ("Expect", b"a", b"/"),
        ("User-Agent", "\x9b".encode(), b"/"),
        ("Access-Control-Request-Headers", b"a,", b"/api/news"),
        ("Sec-WebSocket-Protocol", b"a,", b"/live"),
        ("Sec-WebSocket-Version", b"13,", b"/live"),
        ("Transfer-Encoding", b"gzip,", b"/"),
        ("Content-Encoding", b"gzip,", b"/"),
        ("Content-Type", b";", b"/admin/login"),
        ("Content-Type", b'"', b"/admin/login"),
        ("Content-Type", b"(", b"/admin/login"),
        ("Content-Type", b"text/plain;", b"/admin/login"),
    ]:
        more: dict[str, Any] = {"target": path}
        extra: Headers = ()
        if name.startswith("Access-Control"):
            more["method"] = "OPTIONS"
            extra = (("Origin", OTHER_SITE), ("Access-Control-Request-Method", b"GET"))
        if name.startswith("Sec-WebSocket"):
            extra = tuple(each for each in websocket(b"x").headers if each[0] != name)
        if name.startswith("Content-Type"):
            more |= {"method": "POST", "own": True}
        shown = unit.decode(errors="replace")
        for count in (1, FIELDS, 115):
            worst = header(name, unit, count, **more)
            ordinary = header("X-Ordinary", b"x", count, **more)
            times = f" {count} times" if count > 1 else ""
            yield (
                f"{name}: {shown!r}{times}",
                replace(worst, headers=worst.headers + extra),
                ordinary,
            )
    for name in ("Origin", "Referer"):
        for count in (1, FIELDS, 115):
            worst = header(name, b"http://" + CJK.encode(), count, method="POST")
            ordinary = header("X-Ordinary", b"x", count, method="POST")
            yield f"{name}: CJK, {count} times", worst, ordinary
        yield f"{name}: xn--", Request("POST", headers=((name, b"http://xn--"),)), Request("POST")


def bodies() -> Iterator[Input]:
    """Yield requests with hostile bodies that need no login, and WebSockets."""
    bomb = compress(bytes(MEBIBYTE * 256))
    for coding in (b"gzip", b"identity, gzip"):
        ordinary = post(b"/nowhere", b"text/plain", bomb)
        more = (("Content-Encoding", coding),)
        yield f"{coding.decode()}", replace(ordinary, headers=ordinary.headers + more), ordinary
    plain = post(b"/nowhere", b"text/plain", b"x" * MEBIBYTE)
    for size in (1, 4, 16, 64):
        body = plain.body[: MEBIBYTE * size // (size + 6)]
        yield f"chunks of {size} bytes", replace(plain, body=body, chunk=size), plain
    fields = {"name": "ada", "password": PASSWORD, "more": "x" * 1_000_000}
    login = form(b"/admin/login", fields)
    urlencoded, multipart = login.headers[0][1], b"multipart/form-data; boundary=b"
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    for name, kind, unit in [
        ("fields", urlencoded, b"a=b&"),
        ("names", urlencoded, b"a&"),
        ("escapes", urlencoded, b"%41"),
        ("bad escapes", urlencoded, b"%f0%9f"),
        ("spaces", urlencoded, b"+"),
        ("parts", multipart, part),
    ]:
        yield f"form: {name}", post(b"/admin/login", kind, repeat(unit, MEBIBYTE - 99)), login
    for name, text in HOSTILE.items():
        length = len(urlencode({"": text}))
        for size in (900_000, 4000):
            worst = sign_in(text * (size // length))
            yield f"password: {name}, {size}", worst, sign_in("x" * len(worst.body))
    ping = websocket(frame(0x81, b'{"type": "ping"}'.ljust(100)))
    yield "WebSocket: pings", websocket(frame(0x89)), ping
    yield "WebSocket: pongs", websocket(frame(0x8A)), ping
    yield "WebSocket: messages", websocket(frame(0x81, b'{"type":"ping"}')), ping
    yield "WebSocket: parts", websocket(frame(0x00), frame(0x01)), ping
    yield "WebSocket: pings after an error", websocket(frame(0x89), frame(0x82)), ping
    yield "WebSocket: depth", websocket(frame(0x81, b"[" * 120)), ping


def uploads() -> Iterator[Input]:
    """Yield uploads of a signed-in user."""
    size = MEBIBYTE - 300
    usual = upload(content=b"x" * size)
    for name, worst in {
        "preamble": upload(before=b"x" * size),
        "preamble of lines": upload(before=b"\n" * size),
        "preamble in chunks of 1 byte": upload(before=b"x" * (size // 6), chunk=1),
        "almost boundaries before": upload(before=repeat(b"--c\r\n", size)),
        "headers": upload(head=repeat(b"A: b\r\n", size)),
        "long header": upload(head=b"A: ".ljust(size, b"b") + b"\r\n"),
        "lines": upload(content=repeat(b"\r\n", size)),
        "almost boundaries": upload(content=repeat(b"\r\n--", size)),
        "chunks of 1 byte": upload(content=b"x" * (size // 6), chunk=1),
        "base64": upload(content=b"A".ljust(size), head=b"Content-Transfer-Encoding: base64\r\n"),
        "parts": upload(content=b"x\r\n" + repeat(b"--b\r\n\r\n\r\n", size - 3)),
        "epilogue": upload(after=b"x" * size),
        "epilogue of lines": upload(after=b"\n" * size),
    }.items():
        yield f"upload: {name}", worst, usual
    long = upload(name=b'filename="'.ljust(3500, b"x") + b'"')
    for name, value in {
        **{name: b'"' + repeat(text, 3500) + b'"' for name, text in HOSTILE.items()},
        "semicolons": b'"a"'.ljust(3500, b";"),
        "quotes": b'"' + repeat(b'\\"', 3500) + b'"',
        "dots": b'"' + repeat(b". ", 3500) + b'"',
    }.items():
        yield f"name of a file: {name}", upload(name=b"filename=" + value), long
    punycode = upload(name=b"filename*=punycode''" + repeat(b"%80", 3500))
    yield "name of a file: punycode", punycode, long


def texts() -> Iterator[Input]:
    """Yield news items, in JSON and in forms, with the URLs that render them."""
    size = MEBIBYTE - 99
    ordinary = news({"body": "x" * size})
    for name, body in {
        "depth": b"[" * size,
        "objects": repeat(b'{"a":', size),
        "depth of a field": b'{"title":'.ljust(size, b"["),
        "digits": b'{"version":'.ljust(size, b"9") + b"}",
        "exponent": b'{"version":1e'.ljust(size, b"9") + b"}",
        "same key": b"{" + repeat(b'"title":"x",', size) + b'"body":"x"}',
        "keys": b"{" + b"".join(b'"%x":1,' % i for i in range(90_000)) + b'"body":"x"}',
        "lists": b'{"title":[' + repeat(b"[],", size) + b"1]}",
        "numbers": b'{"title":[' + repeat(b"1,", size) + b"1]}",
        "strings": b'{"title":[' + repeat(b'"",', size) + b"1]}",
        "escapes": b'{"title":"' + repeat(b"\\u0301\\u0316", size) + b'"}',
        "quotes": b'{"title":"' + repeat(b'\\"', size) + b'"}',
        "no end": repeat(b'"a\\', size),
        "long key": b'{"' + b"/" * size + b'":1}',
        "date": b'{"title":"x","body":"x","published_at":"'.ljust(size, b"9") + b'"}',
    }.items():
        yield f"JSON: {name}", write(body), ordinary
    for name, text in HOSTILE.items():
        for part, length in (("title", 200), ("slug", 100), ("body", 50_000)):
            worst = news({part: (text * length)[:length]})
            yield f"{part}: {name}", worst, news({part: "x" * length})
    editor = {"title": "x", "slug": "", "published_at": "", "version": ""}
    for name, text in {"CJK": "字", "markup": "&"}.items():
        worst = form(b"/admin/news/new", editor | {"body": text * 50_000}, signed_in=True)
        usual = form(b"/admin/news/new", editor | {"body": "x" * 50_000}, signed_in=True)
        yield f"editor: {name}", worst, usual
    prose = "It is a truth *universally* acknowledged, that a single man must want a wife. "
    article = f"{prose * 5}[Here](https://example.com).\n\n" * 200
    published = {"published_at": "2024-01-01T00:00:00Z"}
    size = 50_000 - len(f"{NUMBER}\n\n")
    bodies = {name: (unit * (size // len(unit) + 1))[:size] for name, unit in MARKDOWN.items()}
    bodies["quotes"] = ">" * 20 + "a\n" * (size // 2 - 10)
    for unit in NESTED:
        content = unit * ((size - 18 * 6) // len(unit))
        bodies[f"images of {unit[:6]!r}"] = "![" * 18 + content + "](y)" * 18
    usual, *worsts = (
        news(published | {"body": f"{NUMBER}\n\n{text}"}, b"/news.atom")
        for text in (article[:size], *bodies.values())
    )
    for name, worst in zip(bodies, worsts, strict=True):
        yield f"Markdown: {name}", worst, usual


class Site:
    """The worker that is measured."""

    def __init__(self, port: int) -> None:
        """Sign in to the admin."""
        self.port = port
        self.clients = self.sent = 0
        self.cookie = b""
        answer = self.send(sign_in(PASSWORD))
        self.cookie = answer.partition(b"Set-Cookie: ")[2].partition(b";")[0]

    def encoded(self, request: Request) -> bytes:
        """Return the bytes of a request."""
        self.sent += 1
        number = f"{self.sent:0{len(NUMBER)}}".encode()
        headers, body = list(request.headers), request.body.replace(NUMBER.encode(), number)
        names = {name for name, _ in headers}
        if "Host" not in names:
            headers.append(("Host", b"localhost"))
        if "X-Forwarded-For" not in names:
            self.clients += 1
            client = f"10.{self.clients >> 16}.{self.clients >> 8 & 255}.{self.clients & 255}"
            headers.append(("X-Forwarded-For", client.encode()))
        headers.append(
            ("Connection", b"close, Upgrade" if "Sec-WebSocket-Key" in names else b"close")
        )
        if request.own:
            headers.append(("Origin", b"http://localhost"))
        if request.signed_in:
            headers.append(("Cookie", self.cookie))
        if request.token:
            headers.append(("Authorization", b"Bearer " + TOKEN.encode()))
        if request.chunk:
            headers.append(("Transfer-Encoding", b"chunked"))
            starts = range(0, len(body), request.chunk)
            parts = [body[start : start + request.chunk] for start in starts]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
        elif body:
            headers.append(("Content-Length", b"%d" % len(body)))
        lines = (b"%b: %b\r\n" % (name.encode(), value) for name, value in headers)
        head = b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.target)
        return head + b"".join(lines) + b"\r\n" + body

    def send(self, request: Request) -> bytes:
        """Send a request, and return the beginning of the response."""
        sent, answer = self.encoded(request), b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=600) as connection:
            with suppress(OSError):  # it may be rejected before it is read completely
                connection.sendall(sent)
                if request.frames:
                    answer = connection.recv(4096)
                    connection.settimeout(0.2)  # the server may stop reading
                    with suppress(TimeoutError):
                        connection.sendall(request.frames)
                    connection.settimeout(600)
                    connection.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while data := connection.recv(MEBIBYTE):
                    answer += data[: 4096 - len(answer)]
        if request.then:
            self.send(Request(target=request.then))
        return answer

    def probe(self) -> tuple[float, float]:
        """Return the CPU time so far and the longest block since the last call, in milliseconds."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("GET", PROBE, headers={"Host": "localhost"})
        found = json.load(connection.getresponse())
        connection.close()
        return found["cpu"] * 1000, found["block"] * 1000

    def settle(self) -> tuple[float, float]:
        """Wait until the worker is idle, and return the result of probe()."""
        before, block = self.probe()
        while True:
            time.sleep(0.05)
            now, more = self.probe()
            block = max(block, more)
            if now - before < 5:
                return now, block
            before = now

    def measure(self, request: Request) -> tuple[int, float, float]:
        """Return the status, the CPU time per request and the longest block, in milliseconds."""
        before, _ = self.settle()
        longest, count = 0.0, 0
        while count < REPEATS and longest < 1000:
            answer = self.send(request)
            count += 1
            now, block = self.probe()
            longest = max(longest, block)
        now, block = self.settle()
        status = int(answer.split(maxsplit=2)[1]) if answer.startswith(b"HTTP/") else 0
        return status, (now - before) / count, max(longest, block)


def print_table(site: Site) -> None:
    """Measure each input, and print its cost."""
    print(f"{'input':44}{'status':>7}{'CPU ms':>9}{'block ms':>10}{'ordinary ms':>12}{'ratio':>7}")
    known: dict[Request, float] = {}
    too_much = 0
    for kind in (urls, headers, bodies, uploads, texts):
        for name, worst, ordinary in kind():
            if ordinary not in known:
                known[ordinary] = site.measure(ordinary)[1]
            status, cpu, block = site.measure(worst)
            ratio = cpu / known[ordinary]
            mark = "  <--" if block > MOST_BLOCK or ratio > MOST_RATIO else ""
            too_much += bool(mark)
            figures = f"{status:7}{cpu:9.1f}{block:10.1f}{known[ordinary]:12.1f}{ratio:7.1f}"
            print(f"{name:44}{figures}{mark}", flush=True)
    print(
        f"{too_much} block the loop for more than {MOST_BLOCK} ms, or have a ratio over {MOST_RATIO}"
    )


def main() -> None:
    """Bake if needed, serve, measure and print. Raises SystemExit if a step fails."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if len(sys.argv) > 1:
            project = Path(sys.argv[1]).absolute()
        else:
            project = bake(folder)
            run(["make", "install"], cwd=project)
        hasher = f"from my_service.passwords import HASHER; print(HASHER.hash({PASSWORD!r}))"
        environment = os.environ | {
            "ENVIRONMENT": "production",
            "SECRET_KEYS": secrets.token_urlsafe(32),
            "PYTHONPATH": str(BENCH),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ADMIN_USERS": "ada:" + run([project / ".venv/bin/python", "-c", hasher]).strip(),
            "API_TOKENS": TOKEN,
            "CORS_ORIGINS": OTHER_SITE.decode(),
            "TRUSTED_PROXIES": "127.0.0.1",
            "DATABASE_URL": f"sqlite:///{folder}/app.db",
            "UPLOAD_FOLDER": str(folder / "uploads"),
            "BUS_URL": f"local:{folder}/bus",
            "WORKER_TIMEOUT": "600",
        }
        run([project / ".venv/bin/alembic", "upgrade", "heads"], cwd=project, env=environment)
        arguments = ["--config", "deploy/gunicorn.conf.py", "probe:make_runner"]
        variant = Variant("worst inputs", arguments, path="/livez")
        with serving(variant, project, folder / "log", environment):
            (port,) = map(int, re.findall(r":([0-9]+)/", variant.url))
            print_table(Site(port))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
