"""What is SQLite's own: one writer at a time, in a file."""

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import web
from sqlalchemy import text

# % filter replace("package_name", cookiecutter.package_name)
from package_name.database import DATABASE, Database
from package_name.settings import load_settings

from ..helpers import STANDALONE, Client
from .fixtures import alembic

# % endfilter
TIMEOUT = 0.5


@pytest.fixture
def db(limits: None, client: Client) -> Database:
    assert client.app
    return client.app[DATABASE]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_TIMEOUT", str(TIMEOUT))


@pytest.fixture
def other(database: None) -> Iterator[sqlite3.Connection]:
    """A connection of another program, which waits for nobody."""
    path = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        yield connection


async def test_every_connection_is_prepared(db: Database) -> None:
    async with AsyncExitStack() as stack:
        for number in range(5):
            context = db.writing() if number == 0 else db.reading()
            session = await stack.enter_async_context(context)
            found = [
                await session.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "busy_timeout", "foreign_keys")
            ]
            assert found == ["wal", 1000 * TIMEOUT, 1]


async def test_only_writers_take_the_lock_and_from_the_beginning(
    db: Database, other: sqlite3.Connection
) -> None:
    async with db.reading() as session:
        await session.execute(text("SELECT * FROM alembic_version"))
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    async with db.writing():
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        async with db.reading() as session:  # which needs no lock
            await session.execute(text("SELECT * FROM alembic_version"))
        with pytest.raises(web.HTTPServiceUnavailable):  # who stands in line for too long
            async with db.writing():
                pass
    other.execute("BEGIN IMMEDIATE")


async def test_a_lock_is_waited_for_but_not_for_ever(
    db: Database, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN IMMEDIATE")
    asyncio.get_running_loop().call_later(TIMEOUT / 4, other.execute, "ROLLBACK")
    async with db.writing():
        pass
    other.execute("BEGIN IMMEDIATE")
    start = monotonic()
    with pytest.raises(web.HTTPServiceUnavailable):
        async with db.writing():
            pass
    assert monotonic() - start >= TIMEOUT
    async with db.reading():
        pass
    other.execute("ROLLBACK")
    async with db.writing():
        pass


async def test_a_full_disk_is_a_503(db: Database) -> None:
    """Rather, a file that has as many pages as it may have."""
    with pytest.raises(web.HTTPServiceUnavailable):
        async with db.writing() as session:
            await session.execute(text("PRAGMA max_page_count = 1"))  # no more than there are
            await session.execute(text("CREATE TABLE too_much AS SELECT zeroblob(10000000)"))
    async with db.reading() as session:
        await session.execute(text("SELECT * FROM alembic_version"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("text.db", ": (sqlite3.DatabaseError) file is not a database\n"),
        ("/proc/self/app.db", "/proc/self is no folder that can be written to\n"),  # even by root
    ],
)
def test_what_cannot_be_a_database_is_refused(
    path: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.db").write_text("This is a text, and no database. " * 100)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / path}")
    command = [*STANDALONE, "--path", "server.sock"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Cannot start, ")
    assert done.stderr.endswith(reason)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///:memory:", "postgresql:///x", "x.db"])
def test_the_url_names_a_file(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url or "sqlite:///")
    with pytest.raises(SystemExit, match="DATABASE_URL: name a file"):
        load_settings()


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    alembic(f"sqlite:///{tmp_path}/data/app.db", "upgrade", "head")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
