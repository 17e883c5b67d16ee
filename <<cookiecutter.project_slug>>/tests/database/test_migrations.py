"""The migrations, on empty databases."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import pytest

# % filter replace("sqlite", cookiecutter.database)
from ..helpers import Client
from .fixtures import ROOT, alembic
from .sqlite import new_database

# % endfilter
# % filter replace("package_name", cookiecutter.package_name)
MODELS = """
from datetime import datetime
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column
from package_name.database import Base

class Parent(Base):
    __tablename__ = "parents_of_the_tests"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    born_at: Mapped[datetime | None] = mapped_column(index=True)

class Child(Base):
    __tablename__ = "children_of_the_tests"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey(Parent.id, ondelete="CASCADE"))
"""
ROWS = """
import asyncio, sys
from sqlalchemy import text
from package_name.database import Database
from package_name.settings import load_settings

async def main():
    database = Database(load_settings())
    async with database.writing() as session:
        for statement in sys.argv[1:]:
            found = await session.execute(text(statement))
            if found.returns_rows:
                print(found.scalar_one())
    await database.engine.dispose()

asyncio.run(main())
"""
"""Runs statements, and prints what they find."""
TOGETHER = """
import sys
import package_name.app
print("ready", flush=True)
sys.stdin.readline()
"""
"""Waits until the others are there too."""
# % endfilter
SEVERAL = """
import sys
from alembic.config import main
for command in sys.argv[1:]:
    main(command.split())
"""


def run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty database; the settings name it."""
    with new_database() as url:
        monkeypatch.setenv("DATABASE_URL", url)
        yield url


def test_models_and_migrations_agree_up_down_and_up_again(url: str) -> None:
    up, down = ["upgrade head", "check"], "downgrade base"
    run(ROOT, sys.executable, "-c", SEVERAL, *up, down, *up)


def test_two_at_once_do_not_collide(url: str) -> None:
    with ExitStack() as stack:
        commands = [*["upgrade head", "downgrade base"] * 5, "upgrade head"]
        command = [sys.executable, "-c", TOGETHER + SEVERAL, *commands]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        both = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
            for _ in range(2)
        ]
        for each in both:
            assert each.stdout
            assert each.stdout.readline() == "ready\n"
        for each in both:
            assert each.stdin
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in both:
            assert (*each.communicate(), each.returncode)[1:] == ("", 0)


async def test_nobody_is_ready_before(url: str, client: Client) -> None:
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert (await response.json())["down"] == ["database"]
    done = await asyncio.to_thread(alembic, url, "upgrade", "head")
    assert done.returncode == 0, done.stdout + done.stderr
    async with client.get("/readyz") as response:
        assert response.status == 200
    await client.close()  # before the database goes


def test_a_migration_that_is_written_by_itself_works_and_is_well_written(
    url: str, tmp_path: Path
) -> None:
    copy(ROOT / "pyproject.toml", tmp_path)
    copytree(ROOT / "migrations", tmp_path / "migrations")
    before = set(tmp_path.rglob("versions/*.py"))
    up = ["upgrade head", "revision --autogenerate -m families", "upgrade head", "check"]
    run(tmp_path, sys.executable, "-c", MODELS + SEVERAL, *up, "downgrade -1", "upgrade head")
    (written,) = set(tmp_path.rglob("versions/*_families.py")) - before
    text = written.read_text()
    for name in ("uq_parents_of_the_tests_name", "ix_parents_of_the_tests_born_at"):
        assert name in text
    run(tmp_path, sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    run(tmp_path, sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")
    cache = ROOT / ".mypy_cache"  # of `make lint`, as that takes a while
    run(tmp_path, sys.executable, "-m", "mypy", "--cache-dir", cache, written)


def test_rows_outlive_changes_of_their_tables(url: str, tmp_path: Path) -> None:
    copy(ROOT / "pyproject.toml", tmp_path)
    copytree(ROOT / "migrations", tmp_path / "migrations")
    python = [sys.executable, "-c"]
    up = ["upgrade head", "revision --autogenerate -m families", "upgrade head"]
    run(tmp_path, *python, MODELS + SEVERAL, *up)
    born = "INSERT INTO parents_of_the_tests (id, name) VALUES (1, 'Ada')"
    run(ROOT, *python, ROWS, born, "INSERT INTO children_of_the_tests VALUES (1, 1)")
    longer = MODELS.replace("String(40)", "String(80)")
    run(tmp_path, *python, longer + SEVERAL, "revision --autogenerate -m longer", "upgrade head")
    assert run(ROOT, *python, ROWS, "SELECT count(*) FROM children_of_the_tests") == "1\n"
