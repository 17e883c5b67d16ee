"""Conditional and range requests: the project responds as nginx does for the same files."""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from runpy import run_path

import pytest
from conftest import BAKED_TESTS, TIMEOUT, Project, client, free_port, sign_in
from needs import needs
from nginx import proxied

pytestmark = [needs("nginx"), pytest.mark.xdist_group("ranges")]  # the tests share two servers

table = run_path(str(BAKED_TESTS / "web/preconditions.py"))
CASES, SIZE = table["CASES"], table["SIZE"]

SERVERS = """
server {{
  listen 127.0.0.1:{port};
  large_client_header_buffers 4 16k;
  location / {{ proxy_pass http://app; proxy_set_header Host $http_host; }}
  location /static/ {{ alias {static}/; }}
  location /uploads/ {{ alias {folder}/uploads/files/; }}
}}
"""

Answer = tuple[int, Message, bytes]


@dataclass(frozen=True)
class File:
    """A file that both servers send, and its paths."""

    socket: Path
    """Unix socket of the project."""
    path: str
    cookie: str
    port: int
    """Port of nginx."""
    nginx_path: str

    def ask(self, method: str, headers: dict[str, str]) -> Answer:
        """Send the request to the project."""
        connection = HTTPConnection("localhost", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))
        return exchange(connection, method, self.path, headers | {"Cookie": self.cookie})

    def ask_nginx(self, method: str, headers: dict[str, str]) -> Answer:
        """Send the request to nginx."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        return exchange(connection, method, self.nginx_path, headers)


def exchange(connection: HTTPConnection, method: str, path: str, headers: dict[str, str]) -> Answer:
    """Send a request with unchanged headers; other clients refuse to send some of them."""
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value.encode())
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


@pytest.fixture(scope="module")
def files(
    installed: Project, account: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, File]]:
    """Serve a static file and an upload."""
    folder = tmp_path_factory.mktemp("ranges")
    static = installed.path / "src" / installed.package / "static"
    content = os.urandom(SIZE)
    (static / "conditions.bin").write_bytes(content)
    port, uds = free_port(), folder / "server.sock"
    servers = SERVERS.format(port=port, static=static, folder=folder)
    try:
        with proxied(installed, folder, port, servers, ADMIN_USERS=account), client(uds) as http:
            sign_in(http, "http://localhost")
            answer = http.post("http://localhost/admin/files/", files={"file": ("a", content)})
            path = answer.headers["Location"]
            cookie = f"session={http.cookies['session']}"
            on_disk = f"/uploads/{path.rpartition('/')[2]}/content"
            name = "/static/conditions.bin"
            date = time.time() - 10  # otherwise it is too recent for If-Range
            for file in (static / "conditions.bin", folder / f"uploads/files{on_disk[8:]}"):
                os.utime(file, (date, date))
            yield {
                "static": File(uds, name, "", port, name),
                "download": File(uds, path, cookie, port, on_disk),
            }
    finally:
        (static / "conditions.bin").unlink()


@pytest.mark.parametrize("kind", ["static", "download"])
def test_conditions_and_ranges_are_answered_as_by_nginx(kind: str, files: dict[str, File]) -> None:
    """Except for the differences listed in the table."""
    file, wrong = files[kind], []
    for case in CASES:
        answers = []
        for ask in (file.ask, file.ask_nginx):
            known = ask("GET", {})[1]
            values = {"etag": known["ETag"], "date": known["Last-Modified"]}
            given = {name: value.format(**values) for name, value in case.headers.items()}
            answers.append(ask(case.method, given))
        (ours, headers, body), (theirs, nginx_headers, nginx_body) = answers
        same = [(ours, theirs) == (case.status, case.nginx or case.status)]
        if case.nginx is None:
            same.append(headers["Content-Range"] == nginx_headers["Content-Range"])
        if case.nginx is None and ours < 400:
            same.append(headers["Content-Length"] == nginx_headers["Content-Length"])
            same.append(headers["Last-Modified"] == nginx_headers["Last-Modified"])
            same.append(body == nginx_body)
        if not all(same):
            wrong.append((case, answers))
    assert wrong == []
