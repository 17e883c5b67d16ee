"""SQLite: a file that all workers of this host write to, one at a time."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any, Final

import aiosqlite
from sqlalchemy import Connection, DateTime, Dialect, TypeDecorator, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ..settings import Settings

WRITERS: Final = 1
"""Who write at once: they stand in line in each process, as SQLite lets the luckiest go first."""
_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
    }
)
_STEPS: Final = 10_000
"""Instructions of SQLite's machine between two looks at the clock: about a millisecond."""


class _Moment(TypeDecorator[datetime]):
    """A moment in UTC: SQLite itself keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


MOMENT: Final = _Moment()


def is_away(error: Exception) -> bool:
    """Tell whether the database, and not the statement, is to blame: locked, slow, or no room."""
    if not isinstance(error, DBAPIError):
        return True  # no connection became free
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _AWAY


async def _connect(*place: Any, **options: Any) -> aiosqlite.Connection:
    """Open the file, and close it if who asked has left: aiosqlite would leave it open."""
    connection = aiosqlite.connect(*place, **options)
    connection._thread.daemon = True  # as SQLAlchemy has it: it must not hold up the end
    opening = asyncio.ensure_future(connection)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await (await opening).close()
        raise


def make_engine(settings: Settings) -> AsyncEngine:
    """Return an engine of DATABASE_URL, which opens the file when it is first used."""
    url = make_url(settings.database_url).set(drivername="sqlite+aiosqlite")
    engine = create_async_engine(
        url,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_timeout,
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def do_connect(_dialect: object, _record: object, _place: object, options: Any) -> None:
        Path(str(url.database)).parent.mkdir(0o700, parents=True, exist_ok=True)
        options["async_creator_fn"] = _connect

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["deadline"] = inf

        def too_long() -> bool:
            return time.monotonic() > float(record.info["deadline"])

        connection.run_async(lambda driver: driver.set_progress_handler(too_long, _STEPS))
        connection.isolation_level = None  # else Python begins transactions of its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(settings.database_timeout * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "invalidate")
    def let_go(connection: Any, record: ConnectionPoolEntry, _error: object) -> None:
        # Who was cancelled: closing alone would wait for the statement, and leave the lock to
        # Python's garbage collector.
        record.info["deadline"] = -inf
        with suppress(sqlite3.Error):
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # Who has read cannot wait for the lock of the writers, only who begins with it. And who
        # only reads needs no transaction: as in PostgreSQL, each statement sees what is there.
        options = connection.get_execution_options()
        if options.get("migrating"):  # when a table is dropped, rows that point there would go too
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        if options.get("writing"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def start(connection: Connection, *_: object) -> None:
        connection.info["deadline"] = time.monotonic() + settings.database_statement_timeout

    return engine


@contextmanager
def migrating(connection: Connection) -> Iterator[None]:
    """Let tables be made anew, which is how most of their changes are made.

    Raises SystemExit when a foreign key would point nowhere in the end.
    """
    yield
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
        raise SystemExit(f"Not migrated: these foreign keys would point nowhere: {broken}")


async def open_database(engine: AsyncEngine, settings: Settings) -> None:
    """Open the file once. Raises SystemExit when that cannot be."""
    try:
        async with engine.connect():
            pass
    except (DBAPIError, OSError) as error:
        await engine.dispose()
        reason = str(error).partition("\n")[0]
        raise SystemExit(f"Cannot start, {settings.database_url}: {reason}") from None
