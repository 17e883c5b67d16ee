"""The database of the tests, for all of them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# % filter replace("sqlite", cookiecutter.database)
from .sqlite import new_database

# % endfilter
ALEMBIC = str(Path(sys.executable).with_name("alembic"))
ROOT = Path(__file__).parent.parent.parent


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic on a database."""
    environment = os.environ | {"DATABASE_URL": url, "SECRET_KEYS": "x" * 32}
    return subprocess.run(
        [ALEMBIC, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """A database that was migrated; what a test writes, others see."""
    with new_database() as url:
        done = alembic(url, "upgrade", "head")
        assert done.returncode == 0, done.stdout + done.stderr
        yield url


@pytest.fixture(autouse=True)
def database(environment: None, monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    """Have the settings name it."""
    monkeypatch.setenv("DATABASE_URL", database_url)
