"""Shared fixtures: a clean environment, the application, a client, and a movable clock."""

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from pytest_aiohttp import AiohttpClient
from structlog.testing import LogCapture

# % filter replace("package_name", cookiecutter.package_name)
from package_name import logs, passwords
from package_name.app import create_app
from package_name.deployment import Deployment
from package_name.settings import Settings

from .helpers import CHEAP_HASHER, REQUIRED, Client

# % endfilter
# % if cookiecutter.database != "none"
pytest_plugins = ["tests.database.fixtures"]
# % endif
HOSTS = "example.com, localhost, 127.0.0.1, [::1]"
"""Allowed hosts in all tests, so that no test depends on the project's domain."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Set valid production settings in the environment, and work in a folder without .env."""
    for name in (*Settings.model_fields, *Deployment.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLOWED_HOSTS", HOSTS)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    with TemporaryDirectory() as bus:  # tmp_path is too long for a socket address
        monkeypatch.setenv("BUS_URL", f"local:{bus}")
        yield


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with the smallest parameters; tests/test_passwords.py checks the real ones."""
    monkeypatch.setattr(passwords, "HASHER", CHEAP_HASHER)


@pytest.fixture
def development(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set ENVIRONMENT to development."""
    monkeypatch.setenv("ENVIRONMENT", "development")


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that moves the clocks of this process forward by some seconds.

    Event-loop timers that become due run in the next iteration of the loop.
    """
    offset = 0.0
    for name in ("time", "monotonic"):
        real = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real: real() + offset)

    def advance(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    return advance


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    """Return a client of a new application."""
    return await aiohttp_client(create_app())


@pytest.fixture
def access_log(caplog: pytest.LogCaptureFixture) -> Iterator[LogCapture]:
    """Capture access log entries before they are rendered; complete after the client is closed."""
    caplog.set_level(logging.INFO, "access")
    before = structlog.get_config()
    capture = LogCapture()
    structlog.configure(processors=[capture])
    yield capture
    structlog.configure(**before)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undo the effects of logs.configure()."""
    loggers = [logging.root, *map(logging.getLogger, ("aiohttp.server", "gunicorn.error"))]
    before = [(each.handlers[:], each.filters[:], each.level, each.propagate) for each in loggers]
    structlog_before = structlog.get_config()
    yield
    logging.captureWarnings(False)
    structlog.configure(**structlog_before)
    for each, (handlers, filters, level, propagate) in zip(loggers, before, strict=True):
        each.handlers[:], each.filters[:], each.propagate = handlers, filters, propagate
        each.setLevel(level)


@pytest.fixture
def json_log(restored_logging: None, monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Configure logging as in production; return the buffer with this process's log."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8", write_through=True))
    logs.configure(level="INFO", json=True)
    return written
