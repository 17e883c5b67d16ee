"""Clients that never read their responses, and a client that reads slowly."""

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from conftest import TIMEOUT, Project, client, gunicorn, serving, standalone, upload, wait_for
from needs import needs
from stack import Stack, stack

CLIENTS = 40
PIPELINED = b"GET /static/site.css HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connected(opened: ExitStack, port: int, request: bytes, times: int) -> socket.socket:
    """Return a client that has sent a request ``times`` times, or as often as the server read it.

    The first response has arrived; the client reads nothing of it.
    """
    connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT))
    connection.sendall(request)
    assert connection.recv(1, socket.MSG_PEEK)
    connection.setblocking(False)
    with suppress(BlockingIOError, ConnectionError):  # a server may close the connection that early
        for _ in range(times - 1):
            connection.send(request)
    return connection


def are_cut_off(clients: list[socket.socket]) -> bool:
    """Return True once the server has reset every client's connection."""
    poll = select.poll()
    for each in clients:
        poll.register(each, 0)  # POLLHUP and POLLERR
    return len(poll.poll(0)) == len(clients)


@pytest.mark.parametrize("command", [standalone, gunicorn])
def test_clients_that_never_read_are_cut_off_and_a_slow_one_is_not(
    command: Callable[..., list[str]], installed: Project, account: str, tmp_path: Path
) -> None:
    content = os.urandom(40 * 1024**2)
    settings = {"READ_TIMEOUT": "2", "WEB_CONCURRENCY": "1"}
    with (
        serving(installed, tmp_path, account, command, **settings) as site,
        client() as http,
        ExitStack() as opened,
    ):
        path = upload(http, site.base, content)
        head = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: session={http.cookies['session']}"
        )
        large = f"{head}\r\n\r\n".encode()
        with http.stream("GET", site.base + path, timeout=TIMEOUT) as download:
            chunks = download.iter_raw(64 * 1024)
            received = [next(chunks)]
            clients = [connected(opened, site.port, large, 1) for _ in range(CLIENTS - 2)]
            clients += [connected(opened, site.port, PIPELINED, 10_000) for _ in range(2)]

            def one_chunk_later() -> bool:
                received.append(next(chunks))
                return are_cut_off(clients)

            wait_for(one_chunk_later, "every client to be cut off")
            assert b"".join([*received, *chunks]) == content
        assert site.errors() == []


@pytest.fixture(scope="module")
def behind_nginx(installed: Project) -> Iterator[Stack]:
    with stack(installed, "gunicorn") as site:
        site.reconfigure_nginx("keepalive_timeout 15s;", "keepalive_timeout 1s;")
        site.reconfigure_nginx("send_timeout 10s;", "send_timeout 2s;")
        yield site


def open_files(pid: int) -> int:
    """Return the number of open files and sockets of a process's children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(len(list(Path(f"/proc/{child}/fd").iterdir())) for child in children)


@needs("nginx", "user namespaces")
@pytest.mark.parametrize("requests", [10, 10_000], ids=["few requests", "many requests"])
def test_nginx_closes_connections_of_clients_that_never_read(
    behind_nginx: Stack, requests: int
) -> None:
    """The kernel buffers a few responses, so the client looks idle."""
    nginx = behind_nginx.pids()["nginx"]
    wait_for(lambda: open_files(nginx) < CLIENTS, "nginx to be idle")
    with ExitStack() as opened:
        for _ in range(CLIENTS):
            connected(opened, behind_nginx.port, PIPELINED, requests)
        wait_for(lambda: open_files(nginx) < CLIENTS, "nginx to close the connections")
