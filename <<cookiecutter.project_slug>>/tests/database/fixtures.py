"""The test database: migrated once per test process, and empty for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.config import main

# % filter replace("sqlite", cookiecutter.database) | replace("package_name", cookiecutter.package_name)
from package_name import logs
from package_name.web import readiness

from ..helpers import REQUIRED, TIMEOUT
from .sqlite import empty_databases, new_databases

# % endfilter
ROOT = Path(__file__).parent.parent.parent


def alembic(url: str, *arguments: str, folder: Path = ROOT) -> None:
    """Run Alembic on a database, in this process. Raise SystemExit if it fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        for name, value in REQUIRED.items():
            patch.setenv(name, value)
        patch.setattr(logs, "configure", lambda **_: None)  # pytest captures the logging
        main(["--config", str(folder / "pyproject.toml"), *arguments])


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[], str]]:
    """Yield a function that creates a database without tables and returns its URL."""
    with new_databases() as create:
        yield create


@pytest.fixture(scope="session")
def empty_database(new_database: Callable[[], str]) -> Iterator[Callable[[Path], str]]:
    """Yield a function that returns the URL of a migrated database without rows."""
    url = new_database()
    alembic(url, "upgrade", "heads")
    with empty_databases(url) as empty:
        yield empty


@pytest.fixture(autouse=True)
def database(
    environment: None,
    monkeypatch: pytest.MonkeyPatch,
    empty_database: Callable[[Path], str],
    tmp_path: Path,
) -> None:
    """Set DATABASE_URL to a migrated database without rows, and limits that no test reaches."""
    monkeypatch.setenv("DATABASE_URL", empty_database(tmp_path))
    monkeypatch.setenv("DATABASE_TIMEOUT", str(TIMEOUT))
    monkeypatch.setenv("DATABASE_STATEMENT_TIMEOUT", str(TIMEOUT))
    monkeypatch.setattr(readiness, "PATIENCE", TIMEOUT / 2)  # shorter than the wait for a lock
