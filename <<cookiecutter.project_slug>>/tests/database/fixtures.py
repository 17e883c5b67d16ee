"""The tests' database: migrated once for each test process, empty for each test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# % filter replace("sqlite", cookiecutter.database)
from .sqlite import empty_database, new_database

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
def migrated_database() -> Iterator[str]:
    """Yield the URL of a database that was migrated once; tests use ``database``."""
    with new_database() as url:
        done = alembic(url, "upgrade", "head")
        assert done.returncode == 0, done.stdout + done.stderr
        yield url


@pytest.fixture(autouse=True)
def database(
    environment: None, monkeypatch: pytest.MonkeyPatch, migrated_database: str, tmp_path: Path
) -> None:
    """Set DATABASE_URL to a database whose tables are there and empty."""
    monkeypatch.setenv("DATABASE_URL", empty_database(migrated_database, tmp_path))
