"""What Alembic runs the migrations with; pyproject.toml tells it where they are."""

import asyncio
from typing import Literal

import sqlalchemy as sa
from alembic import context

# % filter replace("sqlite", cookiecutter.database) | replace("package_name", cookiecutter.package_name)
import package_name.app  # noqa: F401  # with all models
from package_name.database import Base
from package_name.database import sqlite as backend
from package_name.logs import configure
from package_name.settings import load_settings

# % endfilter
PATIENCE = 600.0
"""Seconds that a migration may take, and that one waits for another that runs at the same time."""


def render(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Return what a migration says of a type of our own: what the database sees of it."""
    if kind == "type" and isinstance(item, sa.TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


def migrate(connection: sa.Connection) -> None:
    """Run the migrations that are asked for, in one transaction: all or none."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=render,
        # % if cookiecutter.database == "sqlite"
        render_as_batch=True,  # SQLite can change hardly anything of a table in place
        transactional_ddl=True,
        # % endif
    )
    with context.begin_transaction(), backend.migrating(connection):
        context.run_migrations()


async def main() -> None:
    """Connect to DATABASE_URL, and migrate. Raises SystemExit when that cannot be."""
    settings = load_settings()
    configure(level=settings.log_level, json=not settings.development)
    patient = {"database_statement_timeout": PATIENCE}
    # % if cookiecutter.database == "sqlite"
    patient["database_timeout"] = PATIENCE  # for the lock; PostgreSQL's is a statement
    # % endif
    engine = backend.make_engine(settings.model_copy(update=patient))
    await backend.open_database(engine, settings)
    async with engine.execution_options(writing=True, migrating=True).begin() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(main())
