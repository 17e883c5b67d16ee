"""nginx and the project's processes under supervisord, started with the project's own script."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from functools import cache
from http.client import HTTPResponse
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import httpx
from conftest import (
    PRODUCTION,
    TIMEOUT,
    Project,
    Server,
    clean_environment,
    free_port,
    started,
    wait_for,
)
from load import load
from workers import customized

TOKEN = "a-token-of-the-tests-that-is-long-enough"
"""Value of API_TOKENS."""
UNPRIVILEGED = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
"""Command prefix that drops root's user id and capabilities but keeps access to its files."""


def beside(server: Server) -> list[str]:
    """Return the prefix for a command that the user of UNPRIVILEGED runs."""
    enter = ["nsenter", f"--target={server.process.pid}", "--user", "--preserve-credentials", "--"]
    return enter if os.geteuid() == 0 else []


@dataclass(frozen=True)
class Stack:
    """A running stack and its folders."""

    project: Project
    server: Server
    port: int
    run: Path
    uploads: Path
    environment: dict[str, str]

    @property
    def base(self) -> str:
        """The URL without a path."""
        return f"http://127.0.0.1:{self.port}"

    def control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run supervisorctl."""
        command = [str(self.project.bin / "supervisorctl"), "-c", f"{self.run}/supervisord.conf"]
        return subprocess.run(
            [*command, *arguments],
            env=clean_environment(**self.environment),
            capture_output=True,
            text=True,
            check=False,
        )

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a target of the project's Makefile as the user of the stack."""
        return subprocess.run(
            [*beside(self.server), "make", *arguments],
            cwd=self.project.path,
            env=clean_environment(RUN_FOLDER=str(self.run)),
            capture_output=True,
            text=True,
            check=False,
        )

    def pids(self) -> dict[str, int]:
        """Return the process ids of supervisord's programs by name; 0 for one that is down."""
        pids = {}
        for line in self.control("status").stdout.splitlines():
            pid = re.search(r" pid (\d+),", line)
            pids[line.split()[0].removeprefix("site:")] = int(pid[1]) if pid else 0
        return pids

    def members(self) -> dict[str, int]:
        """Return the process ids of the application's programs by name, as pids() does."""
        return {name: pid for name, pid in self.pids().items() if name != "nginx"}

    def workers(self) -> set[int]:
        """Return the process ids of gunicorn's workers, or of the members of the pool."""
        members = self.members()
        if "app" not in members:
            return set(members.values())
        masters = children(members["app"])
        return {worker for master in masters for worker in children(master)}

    def kill_under_load(self, pid: int) -> None:
        """Kill a process under load, and wait until there are as many workers as before.

        Raise AssertionError if more requests fail than the process was handling.
        """
        count = len(self.workers())
        with load([self.port], "/", "/echo") as clients:
            clients.wait_for_all(4, 10)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: pid not in self.server.group(), "the process to end")
            wait_for(lambda: len(self.workers() - {0}) == count, "other workers")
            clients.wait_for_all(4, 50)
        # Each of the eight clients may have had a request in progress.
        assert len(clients.failures) <= 8, clients.failures

    def reconfigure_nginx(self, pattern: str, replacement: str) -> None:
        """Replace at least one match in the site's configuration, and make nginx reload it."""
        conf = self.run / "site.conf"
        text, count = re.subn(pattern, replacement, conf.read_text())
        assert count, pattern
        conf.write_text(text)
        os.kill(int((self.run / "nginx.pid").read_text()), signal.SIGHUP)

    def lines(self) -> list[dict[str, object]]:
        """Return the JSON log lines of nginx and the project."""
        text = self.server.output().splitlines()
        return [json.loads(line) for line in text if line.startswith("{")]

    def access(self, path: str, by: str) -> list[dict[str, object]]:
        """Return the lines of a path in nginx's access log, or the project's (``access``)."""
        return [line for line in self.lines() if line["logger"] == by and line.get("path") == path]

    def wrote(self, path: str, by: str, count: int = 1) -> list[dict[str, object]]:
        """Wait for ``count`` lines of a path, which pass through supervisord, and return them."""
        wait_for(lambda: len(self.access(path, by)) >= count, f"{count} lines of {path} by {by}")
        return self.access(path, by)


def children(pid: int) -> list[int]:
    """Return the child processes, or an empty list if the process does not exist."""
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def answers(port: int) -> bool:
    """Return True if the project responds through nginx."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False, timeout=TIMEOUT)
    except httpx.TransportError:
        return False
    return answer.status_code == 200


@cache
def make_static(project: Project) -> None:
    """Compress the project's static files, once."""
    project.make("static")


@contextmanager
def stack(project: Project, app_server: str, **environment: str) -> Iterator[Stack]:
    """Start the project behind nginx, with the handlers of EXTRA, on a free port."""
    make_static(project)
    with TemporaryDirectory() as name:  # its path is short enough for a socket address
        folder = Path(name)
        # Every Python imports it, because the project's own files start the servers.
        (folder / "sitecustomize.py").write_text(customized(project.package))
        port = free_port()
        variables = PRODUCTION | {
            "PYTHONPATH": name,
            "APP_SERVER": app_server,
            "RUN_FOLDER": str(folder / "run"),
            "UPLOAD_FOLDER": str(folder / "uploads"),
            "DATABASE_URL": f"sqlite:///{folder}/data/app.db",
            "LISTEN_ADDRESS": "127.0.0.1",
            "LISTEN_PORT": str(port),
            "NGINX_WORKER_PROCESSES": "1",
            **environment,
        }
        command = [*(UNPRIVILEGED if os.geteuid() == 0 else []), "deploy/start.sh"]
        with started(
            command, folder / "log", lambda: answers(port), project.path, **variables
        ) as server:
            found = Stack(project, server, port, folder / "run", folder / "uploads", variables)
            count = 2 if app_server == "pool" else 1
            wait_for(
                lambda: len(list(found.run.glob("sockets/app*.sock"))) == count,
                "a socket for each process",
            )
            wait_for(lambda: all(found.pids().values()), "every program to run")
            if app_server == "gunicorn":  # a test may break what a worker needs to start
                wait_for(lambda: "all workers (" in server.output(), "all workers to be ready")
            yield found


def ask(
    address: int | Path, head: str, body: bytes = b"", context: ssl.SSLContext | None = None
) -> tuple[int, Message, str]:
    """Send a request to a port or a Unix socket; the server may stop reading halfway.

    Return status, headers and body of the response.
    """
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with ExitStack() as closing:
        connection = closing.enter_context(socket.socket(family))
        connection.settimeout(TIMEOUT)
        connection.connect(str(address) if isinstance(address, Path) else ("127.0.0.1", address))
        if context:
            connection = closing.enter_context(
                context.wrap_socket(connection, server_hostname="localhost")
            )
        with suppress(ConnectionError):
            request = head.replace("\n", "\r\n").encode("utf-8", "surrogateescape")
            connection.sendall(request + b"\r\n" + body)
        answer = HTTPResponse(connection, method=head.split()[0])
        answer.begin()
        return answer.status, answer.headers, answer.read().decode()


def publish(http: httpx.Client, base: str, title: str) -> None:
    """Publish a news item through the JSON API, with TOKEN."""
    news = {"title": title, "body": "Hello.", "published_at": "2026-01-01T00:00:00Z"}
    sent = {"Authorization": f"Bearer {TOKEN}"}
    assert http.post(f"{base}/api/news", json=news, headers=sent).status_code == 201


async def talk(base: str, context: ssl.SSLContext | bool = True) -> object:
    """Send a ping over the WebSocket of a site, and return the reply."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{base}/live", protocols=["live.v1"], origin=base, ssl=context
        ) as websocket,
    ):
        await websocket.send_json({"type": "ping"})
        return await websocket.receive_json(timeout=TIMEOUT)
