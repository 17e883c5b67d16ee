"""Migrations, tested on separate databases."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from sqlalchemy import ForeignKey, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# % filter replace("package_name", cookiecutter.package_name)
from package_name import database as database_package
from package_name.database import Database
from package_name.settings import load_settings

from ..helpers import TIMEOUT, Client
from .fixtures import ROOT, alembic
from .helpers import is_ready

TWICE = """
import os, sys
import package_name.app
from alembic.config import main

child = os.fork()
for command in sys.argv[1:]:
    main(command.split())
sys.exit(child and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Script that runs Alembic's commands in two processes at the same time."""
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "first", None


def upgrade():
    op.create_table("table_of_the_tests", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade():
    op.drop_table("table_of_the_tests")
"""


# % endfilter
@pytest.fixture
def url(new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a database without tables, and set it in the settings."""
    url = new_database()
    monkeypatch.setenv("DATABASE_URL", url)
    return url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder without migrations, to which a test may add some."""
    copy(ROOT / "pyproject.toml", tmp_path)
    copytree(ROOT / "migrations", tmp_path / "migrations", ignore=ignore_patterns("versions"))
    (tmp_path / "migrations/versions").mkdir()
    return tmp_path


@pytest.fixture
def set_models(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that replaces all models with two models, for this test only."""
    right = database_package.Base

    def set_models(longest_name: int) -> None:
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

        monkeypatch.setattr(database_package, "Base", Base)

    return set_models


def test_models_and_migrations_agree_after_upgrade_and_downgrade(url: str) -> None:
    for command in ("upgrade heads", "check", "downgrade base", "upgrade heads", "check"):
        alembic(url, *command.split())


def test_concurrent_migrations_wait_for_each_other(url: str, folder: Path) -> None:
    (folder / "migrations/versions/first.py").write_text(MIGRATION)
    commands = [*["upgrade heads", "downgrade base"] * 3, "upgrade heads"]
    done = subprocess.run(
        [sys.executable, "-c", TWICE, *commands],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_application_is_not_ready_until_the_database_is_migrated(
    url: str, client: Client
) -> None:
    assert not await is_ready(client)
    await asyncio.to_thread(alembic, url, "upgrade", "heads")
    assert await is_ready(client)


def test_generated_migration_works_and_passes_the_linters(
    url: str, folder: Path, set_models: Callable[[int], None]
) -> None:
    set_models(40)
    alembic(url, "revision", "--autogenerate", "-m", "families", folder=folder)
    for command in ("upgrade heads", "check", "downgrade -1", "upgrade heads"):
        alembic(url, *command.split(), folder=folder)
    (written,) = folder.rglob("versions/*_families.py")
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
    url: str, folder: Path, set_models: Callable[[int], None]
) -> None:
    def migrate(message: str) -> str:
        alembic(url, "revision", "--autogenerate", "-m", message, folder=folder)
        alembic(url, "upgrade", "heads", folder=folder)
        (written,) = folder.rglob(f"versions/*_{message}.py")
        return written.read_text()

    set_models(40)
    await asyncio.to_thread(migrate, "families")
    database = Database(load_settings())
    async with database.writing() as session:
        await session.execute(text("INSERT INTO parents_of_the_tests (id, name) VALUES (1, 'Ada')"))
        await session.execute(text("INSERT INTO children_of_the_tests VALUES (1, 1)"))
    set_models(80)
    assert "type_=sa.String(length=80)" in await asyncio.to_thread(migrate, "longer")
    async with database.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM children_of_the_tests")) == 1
    await database.engine.dispose()


def test_database_that_is_newer_than_the_code_is_left_as_it_is(
    url: str,
    folder: Path,
    set_models: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_models(40)
    alembic(url, "revision", "--autogenerate", "-m", "families", folder=folder)
    older = copytree(folder, folder / "older")
    alembic(url, "revision", "-m", "newer", "--rev-id", "newer", folder=folder)
    alembic(url, "upgrade", "heads", folder=folder)
    assert "no revision newer" not in caplog.text
    alembic(url, "upgrade", "heads", folder=older)
    assert "no revision newer; its tables are left as they are" in caplog.text
    alembic(url, "downgrade", "base", folder=folder)  # with the code that has the revision


def test_database_that_is_newer_and_lacks_what_the_code_needs_is_an_error(
    url: str, folder: Path, set_models: Callable[[int], None]
) -> None:
    set_models(40)
    older = copytree(folder, folder / "older")
    (folder / "migrations/versions/first.py").write_text(MIGRATION)
    alembic(url, "upgrade", "heads", folder=folder)
    needed = "parents_of_the_tests.id, parents_of_the_tests.name, parents_of_the_tests.born_at"
    with pytest.raises(SystemExit, match=f"no revision first, and does not have {needed}, "):
        alembic(url, "upgrade", "heads", folder=older)
