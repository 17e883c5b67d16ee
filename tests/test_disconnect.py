"""Clients that disconnect, and clients that only shut down their sending side."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TIMEOUT, Project, Server, free_port, lines, wait_for
from needs import needs
from nginx import nginx
from workers import Workers, workers

CLASSES = ["aiohttp.GunicornWebWorker", "aiohttp.GunicornUVLoopWebWorker"]
pytestmark = pytest.mark.xdist_group("disconnect")  # the tests share a server

PROXY = """
server {{
  listen 127.0.0.1:{port};
  location / {{ proxy_pass http://app; proxy_set_header Host localhost; }}
}}
"""


@pytest.fixture(scope="module", params=CLASSES)
def site(
    request: pytest.FixtureRequest, installed: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workers, Path]]:
    """Run a worker of each class; yield it with the folder of its Unix socket."""
    folder = tmp_path_factory.mktemp("disconnect")
    options = ("--worker-class", request.param)
    with workers(installed, folder, *options, WEB_CONCURRENCY="1") as site:
        yield site, folder


def connect(address: int | Path) -> socket.socket:
    """Connect to a TCP port or a Unix socket."""
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), TIMEOUT)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT)
    connection.connect(str(address))
    return connection


def held(server: Server, connection: socket.socket, until: Path) -> Callable[[], bool]:
    """Send a request that waits for the file. Return a condition: that it was cancelled."""
    before = sum(line["event"] == "held" for line in lines(server))
    target = f"/held?until={until}"
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    wait_for(
        lambda: sum(line["event"] == "held" for line in lines(server)) > before,
        "the request to be held",
    )
    return lambda: f"cancelled: GET {target}" in [line["event"] for line in lines(server)]


def everything(connection: socket.socket) -> bytes:
    """Return all bytes that the server sends until it closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_half_closed_client_gets_its_response(
    kind: str, site: tuple[Workers, Path], tmp_path: Path
) -> None:
    found, folder = site
    address = found.port if kind == "tcp" else folder / "server.sock"
    release = tmp_path / "release"
    with connect(address) as connection:
        cancelled = held(found.server, connection, release)
        connection.shutdown(socket.SHUT_WR)
        release.touch()
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"released")
    assert not cancelled()


def test_half_closed_client_gets_its_response_when_all_comes_at_once(
    site: tuple[Workers, Path],
) -> None:
    """A server may read the request and the end of the stream at once, before a handler starts."""
    found, folder = site
    for address in (found.port, folder / "server.sock"):
        for _ in range(10):
            with connect(address) as connection:
                connection.sendall(b"GET /about HTTP/1.1\r\nHost: localhost\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                answer = everything(connection)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"</html>")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_handler_is_cancelled_when_the_client_closes(
    kind: str, site: tuple[Workers, Path], tmp_path: Path
) -> None:
    found, folder = site
    address = found.port if kind == "tcp" else folder / "server.sock"
    with connect(address) as connection:
        cancelled = held(found.server, connection, tmp_path / "never")
    wait_for(cancelled, "the handler to be cancelled")


@needs("nginx")
def test_handler_is_cancelled_when_the_client_of_nginx_closes(
    site: tuple[Workers, Path], tmp_path: Path
) -> None:
    found, folder = site
    port = free_port()
    with nginx(folder, port, PROXY.format(port=port)):
        with connect(port) as connection:
            cancelled = held(found.server, connection, tmp_path / "never")
        wait_for(cancelled, "the handler to be cancelled")
