"""Running the servers for real."""

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

Client = TestClient[web.Request, web.Application]

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


def wait_for_socket(path: Path, ended: Callable[[], bool]) -> None:
    """Return once a server listens on it. Raises TimeoutError if none does, or the server ended."""
    deadline = time.monotonic() + 20
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
    """Return a client of the server that listens on the socket; the host name is of no account."""
    return ClientSession("http://localhost", connector=UnixConnector(str(path)))


def own(client: Client) -> dict[str, str]:
    """Return what a browser says of a request that a page of the site itself makes."""
    return {hdrs.ORIGIN: str(client.make_url("/").origin())}
