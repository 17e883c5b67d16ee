"""The migrations, on databases of their own."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from shutil import copy, copytree

import pytest
from sqlalchemy import ForeignKey, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# % filter replace("package_name", cookiecutter.package_name)
from package_name import database as database_package
from package_name.database import Database
from package_name.settings import load_settings

from ..helpers import TIMEOUT, Client
from .fixtures import ROOT, alembic

TWICE = """
import os, sys
import package_name.app
from alembic.config import main

child = os.fork()
for command in sys.argv[1:]:
    main(command.split())
sys.exit(child and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Runs Alembic's commands in two processes at the same time."""


# % endfilter
@pytest.fixture
def url(new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a database without tables; the settings name it."""
    url = new_database()
    monkeypatch.setenv("DATABASE_URL", url)
    return url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the migrations, to which a test may add some."""
    copy(ROOT / "pyproject.toml", tmp_path)
    copytree(ROOT / "migrations", tmp_path / "migrations")
    return tmp_path


@pytest.fixture
def add_models(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that adds two models for this test alone: to a copy of Base."""
    right = database_package.Base

    def add_models(longest_name: int) -> None:
        class Base(DeclarativeBase):
            metadata = MetaData(naming_convention=right.metadata.naming_convention)
            type_annotation_map = right.type_annotation_map

        class Parent(Base):
            __tablename__ = "parents_of_the_tests"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(String(longest_name), unique=True)
            born_at: Mapped[datetime | None] = mapped_column(index=True)

        class Child(Base):
            __tablename__ = "children_of_the_tests"
            id: Mapped[int] = mapped_column(primary_key=True)
            parent_id: Mapped[int] = mapped_column(ForeignKey(Parent.id, ondelete="CASCADE"))

        for table in right.metadata.tables.values():
            table.to_metadata(Base.metadata)
        monkeypatch.setattr(database_package, "Base", Base)

    return add_models


def test_models_and_migrations_agree_after_upgrade_and_downgrade(url: str) -> None:
    for command in ("upgrade head", "check", "downgrade base", "upgrade head", "check"):
        alembic(url, *command.split())


def test_concurrent_migrations_wait_for_each_other(url: str) -> None:
    commands = [*["upgrade head", "downgrade base"] * 3, "upgrade head"]
    done = subprocess.run(
        [sys.executable, "-c", TWICE, *commands],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_application_is_not_ready_until_the_database_is_migrated(
    url: str, client: Client
) -> None:
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert (await response.json())["down"] == ["database"]
    await asyncio.to_thread(alembic, url, "upgrade", "head")
    async with client.get("/readyz") as response:
        assert response.status == 200


def test_generated_migration_works_and_passes_the_linters(
    url: str, folder: Path, add_models: Callable[[int], None]
) -> None:
    before = set(folder.rglob("versions/*.py"))
    add_models(40)
    alembic(url, "upgrade", "head", folder=folder)
    alembic(url, "revision", "--autogenerate", "-m", "families", folder=folder)
    for command in ("upgrade head", "check", "downgrade -1", "upgrade head"):
        alembic(url, *command.split(), folder=folder)
    (written,) = set(folder.rglob("versions/*_families.py")) - before
    content = written.read_text()
    for name in ("uq_parents_of_the_tests_name", "ix_parents_of_the_tests_born_at"):
        assert name in content
    for linter in (
        ("ruff", "check", "--no-cache", "."),
        ("ruff", "format", "--no-cache", "--check", "."),
        ("mypy", "--follow-imports=skip", "--cache-dir", ".mypy_cache", written),
    ):
        linting = [sys.executable, "-m", *linter]
        done = subprocess.run(linting, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


async def test_rows_survive_a_change_of_their_table(
    url: str, folder: Path, add_models: Callable[[int], None]
) -> None:
    def migrate(message: str) -> str:
        alembic(url, "revision", "--autogenerate", "-m", message, folder=folder)
        alembic(url, "upgrade", "head", folder=folder)
        (written,) = folder.rglob(f"versions/*_{message}.py")
        return written.read_text()

    await asyncio.to_thread(alembic, url, "upgrade", "head", folder=folder)
    add_models(40)
    await asyncio.to_thread(migrate, "families")
    database = Database(load_settings())
    async with database.writing() as session:
        await session.execute(text("INSERT INTO parents_of_the_tests (id, name) VALUES (1, 'Ada')"))
        await session.execute(text("INSERT INTO children_of_the_tests VALUES (1, 1)"))
    add_models(80)
    assert "type_=sa.String(length=80)" in await asyncio.to_thread(migrate, "longer")
    async with database.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM children_of_the_tests")) == 1
    await database.engine.dispose()
