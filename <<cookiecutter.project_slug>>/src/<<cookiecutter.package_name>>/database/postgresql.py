"""PostgreSQL: a server that may start later than this process, or be unavailable for a while."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, DateTime, event, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from .. import about
from ..settings import Settings

logger = logging.getLogger(__name__)

MOMENT: Final[TypeEngine[datetime]] = DateTime(timezone=True)

WRITERS: Final = 1000
"""Concurrent writers per process: in effect limited by the number of connections."""
_AWAY: Final = ("08", "25006", "53", "57")
"""SQLSTATEs, or their classes, of server errors: connection, read-only, resources, intervention."""
PAUSE: Final = 0.5
"""Seconds between two attempts to connect to a server that is starting."""


def is_away(error: Exception) -> bool:
    """Return True if the server caused the error, not the statement: stopped, full or too slow."""
    if not isinstance(error, DBAPIError):
        return True  # no connection was available
    if isinstance(error.orig, AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError):
        return True  # the table was migrated; the next attempt will succeed
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_AWAY)


def make_engine(settings: Settings) -> AsyncEngine:
    """Return an engine for DATABASE_URL, which connects when it is first used."""
    seconds = settings.database_statement_timeout
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_timeout,
        connect_args={
            "dsn": settings.database_url.get_secret_value(),  # parsed as by libpq, with sslmode
            "timeout": settings.database_timeout,
            "command_timeout": seconds + 1,  # the server's timeout comes first, unless it is gone
            "server_settings": {
                "application_name": about.DISTRIBUTION,
                "statement_timeout": str(int(seconds * 1000)),
            },
        },
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def look(connection: Any, *_: object) -> None:
        # A stopping server closes its connections. pool_pre_ping would add 3 queries per session.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine


_WRITABLE: Final = text(
    "SELECT current_setting('transaction_read_only') = 'off', coalesce(bool_or("
    "has_table_privilege(format('%I.%I', schemaname, tablename), 'INSERT')), true)"
    " FROM pg_tables WHERE schemaname = current_schema()"
)


async def check_writable(connection: AsyncConnection) -> None:
    """Raise OSError if the server is read-only (a standby), or this user may write to no table."""
    writable, granted = (await connection.execute(_WRITABLE)).one()
    if not writable:
        raise OSError("the server is read-only")
    if not granted:
        raise OSError("this user may write to no table")


@contextmanager
def migrating(connection: Connection) -> Iterator[None]:
    """Wait for other migrations of the same database."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('migrations'))"))
    yield


async def open_database(engine: AsyncEngine, settings: Settings) -> None:
    """Wait for the server, up to DATABASE_WAIT seconds. Raises SystemExit if it cannot connect."""
    deadline = time.monotonic() + settings.database_wait
    # Without the password, and without the parameters, such as certificates.
    place = settings.database_url.get_secret_value().partition("?")[0].rpartition("@")[2]
    while True:
        try:
            async with engine.connect():
                return
        except (DBAPIError, OSError) as error:
            reason = str(error).partition("\n")[0] or repr(error)
            wrong = isinstance(error, DBAPIError) and not is_away(error)
            if wrong or time.monotonic() > deadline:
                raise SystemExit(f"Cannot start, {place}: {reason}") from None
        logger.warning("waiting for %s: %s", place, reason)
        await asyncio.sleep(PAUSE)
