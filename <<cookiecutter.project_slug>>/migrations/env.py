"""The environment in which Alembic runs the migrations; pyproject.toml sets their location."""

import asyncio
import logging
from typing import Literal

import sqlalchemy as sa
from alembic import command, context
from sqlalchemy.exc import DBAPIError

# % filter replace("sqlite", cookiecutter.database) | replace("package_name", cookiecutter.package_name)
import package_name.app  # noqa: F401  # with all models
from package_name.database import Base
from package_name.database import sqlite as backend
from package_name.logs import configure
from package_name.settings import load_settings

# % endfilter
PATIENCE = 600.0
"""Maximum seconds of a migration, and of the wait for a concurrent one."""

logger = logging.getLogger("migrations")


def render(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Return the code for a custom type in a migration: the type in the database."""
    if kind == "type" and isinstance(item, sa.TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


def missing(connection: sa.Connection) -> list[str]:
    """Return the columns of the models that are missing in the database."""
    inspector = sa.inspect(connection)
    found: list[str] = []
    for table in Base.metadata.sorted_tables:
        there: set[str] = set()
        if inspector.has_table(table.name, table.schema):
            there = {each["name"] for each in inspector.get_columns(table.name, table.schema)}
        found += [str(column) for column in table.columns if column.name not in there]
    return found


def is_newer(connection: sa.Connection) -> bool:
    """Return True, and log a warning, if the database has a revision that this code lacks.

    Raises SystemExit if the database lacks columns of the models.
    """
    known = {script.revision for script in context.script.walk_revisions()}
    unknown = set(context.get_context().get_current_heads()) - known
    if not unknown:
        return False
    newer = f"The database is newer than this code, which has no revision {', '.join(unknown)}"
    if lacking := missing(connection):
        raise SystemExit(
            f"{newer}, and does not have {', '.join(lacking)}, which this code needs;"
            " install a version that has the revision, and downgrade by it"
        )
    logger.warning("%s; its tables are left as they are", newer)
    return True


def migrate(connection: sa.Connection) -> None:
    """Run the requested migrations in one transaction: all or none."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_item=render,
        # % if cookiecutter.database == "sqlite"
        render_as_batch=True,  # SQLite can change hardly anything in place
        transactional_ddl=True,
        # % endif
    )
    upgrading = getattr(context.config.cmd_opts, "cmd", [None])[0] is command.upgrade
    with context.begin_transaction(), backend.migrating(connection):
        if not (upgrading and is_newer(connection)):
            context.run_migrations()


async def main() -> None:
    """Connect to DATABASE_URL, and migrate. Raises SystemExit if that fails."""
    settings = load_settings()
    configure(level=settings.log_level, json=not settings.development)
    patient = {"database_statement_timeout": PATIENCE}
    # % if cookiecutter.database == "sqlite"
    patient["database_timeout"] = PATIENCE  # for the lock; PostgreSQL waits in a statement
    # % endif
    engine = backend.make_engine(settings.model_copy(update=patient))
    await backend.open_database(engine, settings)
    try:
        async with engine.execution_options(writing=True, migrating=True).begin() as connection:
            await connection.run_sync(migrate)
    except DBAPIError as error:
        if not backend.is_away(error):
            raise
        raise SystemExit(f"Not migrated: {error.orig}") from None
    finally:
        await engine.dispose()


asyncio.run(main())
