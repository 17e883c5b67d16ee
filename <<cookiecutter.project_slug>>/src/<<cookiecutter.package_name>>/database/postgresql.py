"""PostgreSQL: a server that may start later than this process, and be away for a while."""

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
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from .. import about
from ..settings import Settings

logger = logging.getLogger(__name__)

MOMENT: Final[TypeEngine[datetime]] = DateTime(timezone=True)

WRITERS: Final = 1000
"""Who write at once: as many as find a connection."""
_AWAY: Final = ("08", "53", "57")
"""Classes of SQLSTATE that are the server's fault: connection, resources, intervention."""
PAUSE: Final = 0.5
"""Seconds between two attempts to reach a server that is starting."""


def is_away(error: Exception) -> bool:
    """Tell whether the server, and not the statement, is to blame: stopped, full or too slow."""
    if not isinstance(error, DBAPIError):
        return True  # no connection became free
    if isinstance(error.orig, AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError):
        return True  # the table has been migrated since; the next attempt knows
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_AWAY)


def make_engine(settings: Settings) -> AsyncEngine:
    """Return an engine of DATABASE_URL, which connects when it is first used."""
    seconds = settings.database_statement_timeout
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_timeout,
        connect_args={
            "dsn": settings.database_url.get_secret_value(),  # read as libpq does, with sslmode
            "timeout": settings.database_timeout,
            "command_timeout": seconds + 1,  # the server says so first, unless it is gone
            "server_settings": {
                "application_name": about.DISTRIBUTION,
                "statement_timeout": str(int(seconds * 1000)),
            },
        },
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def look(connection: Any, *_: object) -> None:
        # A server that stops says so. pool_pre_ping would ask it, three times before each session.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine


@contextmanager
def migrating(connection: Connection) -> Iterator[None]:
    """Wait for others who migrate the same database."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('migrations'))"))
    yield


async def open_database(engine: AsyncEngine, settings: Settings) -> None:
    """Wait for the server, up to DATABASE_WAIT. Raises SystemExit when it does not take us."""
    deadline = time.monotonic() + settings.database_wait
    # Without the password, and what may follow: certificates and such.
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
