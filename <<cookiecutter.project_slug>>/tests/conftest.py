"""What the tests share: a clean environment, the application and a client of it."""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from pytest_aiohttp import AiohttpClient
from structlog.testing import LogCapture

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.deployment import Deployment
from package_name.settings import Settings

from .helpers import Client


# % endfilter
@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Settings of production that are right, from the environment alone: there is no .env."""
    for name in (*Settings.model_fields, *Deployment.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEYS", "a-key-of-the-tests-that-is-long-enough")
    with TemporaryDirectory() as bus:  # tmp_path is too long for the address of a socket
        monkeypatch.setenv("BUS_URL", f"local:{bus}")
        yield


# % if cookiecutter.database != "none"
pytest_plugins = ["tests.database.fixtures"]


# % endif
@pytest.fixture
def development(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "development")


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(create_app())


@pytest.fixture
def access_log(caplog: pytest.LogCaptureFixture) -> Iterator[LogCapture]:
    """The access lines before they become text; complete once the client is closed."""
    caplog.set_level(logging.INFO, "access")
    before = structlog.get_config()
    capture = LogCapture()
    structlog.configure(processors=[capture])
    yield capture
    structlog.configure(**before)
