"""Helpers that start servers as processes, send requests to them, and wait for conditions."""

import asyncio
import io
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, UnixConnector, hdrs, web
from aiohttp.test_utils import TestClient
from argon2 import PasswordHasher

Client = TestClient[web.Request, web.Application]

REQUIRED = {"SECRET_KEYS": "a-key-of-the-tests-that-is-long-enough"}
"""Values that the tests use for settings without a default."""

CHEAP_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hasher that the tests use for passwords."""

TIMEOUT = 60.0
"""Seconds after which a test gives up; long, because a busy machine only slows tests down."""

# % filter replace("package_name", cookiecutter.package_name)
STANDALONE = [sys.executable, "-m", "package_name"]
# % endfilter
GUNICORN = [
    str(Path(sys.executable).with_name("gunicorn")),
    "--config",
    str(Path(__file__).parent.parent / "deploy/gunicorn.conf.py"),
]


def json_lines(output: str) -> list[dict[str, Any]]:
    """Return the log lines of a server. Raise ValueError if one is not a JSON object."""
    return [json.loads(line) for line in output.splitlines()]


def access_lines(log: io.BytesIO) -> list[dict[str, Any]]:
    """Return the access log lines of this process; see the fixture ``json_log``."""
    return [line for line in json_lines(log.getvalue().decode()) if line["logger"] == "access"]


def read_terminal(terminal: int) -> Iterator[bytes]:
    """Yield the output to a pseudo-terminal until all programs have closed it; then close it."""
    with os.fdopen(terminal, "rb", buffering=0) as stream, suppress(OSError):
        while chunk := stream.read(1000):
            yield chunk


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true. Raise TimeoutError after TIMEOUT."""
    deadline = time.perf_counter() + TIMEOUT  # not moved by the fixture ``advance``
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.005)


async def run_due_callbacks() -> None:
    """Let the event loop run what is due: 50 iterations, without waiting."""
    for _ in range(50):
        await asyncio.sleep(0)


@contextmanager
def running(command: list[str], path: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a server, wait until it listens on its Unix socket, and kill it at the end.

    Raise AssertionError with the last lines of its output if it does not listen.
    """
    pipe = subprocess.PIPE
    everything = os.environ | environment
    with subprocess.Popen(command, env=everything, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            deadline = time.monotonic() + TIMEOUT
            while not is_listening(path):
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    output = "".join(process.communicate()).splitlines()[-20:]
                    raise AssertionError("\n".join([f"not listening: {command}", *output]))
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def is_listening(path: Path) -> bool:
    """Return True if a server accepts connections on the Unix socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False


def children(process: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [
        int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


@contextmanager
def no_file_descriptors(pid: int = 0) -> Iterator[None]:
    """Stop a process from opening more files and sockets; those already open are unaffected."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def session(path: Path) -> ClientSession:
    """Return a client of the server that listens on the Unix socket."""
    return ClientSession("http://localhost", connector=UnixConnector(str(path)))


def own(client: Client) -> dict[str, str]:
    """Return the headers that a browser adds to a request from a page of the same site."""
    return {hdrs.ORIGIN: str(client.make_url("/").origin())}
