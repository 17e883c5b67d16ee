"""Helpers: start servers as processes, talk to them, and wait for conditions."""

import asyncio
import json
import os
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

CHEAP_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""What the tests hash passwords with."""

TIMEOUT = 60.0
"""Seconds after which a test gives up waiting; long, as a busy machine only makes tests slower."""

# % filter replace("package_name", cookiecutter.package_name)
STANDALONE = [sys.executable, "-m", "package_name"]
# % endfilter
GUNICORN = [
    str(Path(sys.executable).with_name("gunicorn")),
    "--config",
    str(Path(__file__).parent.parent / "deploy/gunicorn.conf.py"),
]


def json_lines(output: str) -> list[dict[str, Any]]:
    """Return the log lines of a server; raises ValueError if one is not a JSON object."""
    return [json.loads(line) for line in output.splitlines()]


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true. Raises TimeoutError after TIMEOUT."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - any condition, of which few have an event
            await asyncio.sleep(0.005)


def wait_for_socket(path: Path, ended: Callable[[], bool]) -> None:
    """Wait until a server listens on the socket. Raises TimeoutError if none does, or it ended."""
    deadline = time.monotonic() + TIMEOUT
    while not ended() and time.monotonic() < deadline:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return
        time.sleep(0.02)
    raise TimeoutError


@contextmanager
def running(command: list[str], path: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a server, wait until it listens on its Unix socket, and end it if the test did not."""
    pipe = subprocess.PIPE
    everything = os.environ | environment
    with subprocess.Popen(command, env=everything, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            try:
                wait_for_socket(path, lambda: process.poll() is not None)
            except TimeoutError:
                process.kill()
                raise AssertionError(process.communicate()) from None
            yield process
        finally:
            process.kill()


def session(path: Path) -> ClientSession:
    """Return a client of the server that listens on the Unix socket."""
    return ClientSession("http://localhost", connector=UnixConnector(str(path)))


def own(client: Client) -> dict[str, str]:
    """Return what a browser says of a request that a page of the site itself makes."""
    return {hdrs.ORIGIN: str(client.make_url("/").origin())}
