"""SQLite: a file that all workers of this host write to, one at a time."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final
from weakref import WeakSet

import aiosqlite
from sqlalchemy import Connection, DateTime, Dialect, TypeDecorator, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ..settings import Settings

WRITERS: Final = 1
"""Concurrent writers per process. Writers queue here because SQLite does not queue them fairly."""
_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
    }
)
_STEPS: Final = 10_000
"""Instructions of SQLite's virtual machine between two checks of the deadline: about 1 ms."""


class _Moment(TypeDecorator[datetime]):
    """A datetime in UTC. SQLite does not store time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


MOMENT: Final = _Moment()


def _code(error: BaseException | None) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_away(error: Exception) -> bool:
    """Return True if the database caused the error, not the statement: locked, slow or full."""
    if not isinstance(error, DBAPIError):
        return True  # no connection was available
    return _code(error.orig) in _AWAY


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


class _Files:
    """The file, its -wal and its -shm. SQLite continues to use the files that it has opened.

    If they are removed or replaced, data written to them is lost at the next start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[Path, tuple[int, int] | None] = {}
        self._users: set[ConnectionPoolEntry] = set()

    def check(self) -> None:
        """Raise OSError if one of the open files was removed or replaced."""
        if not self._users:
            return
        same = all(_identity(path) == opened for path, opened in self._opened.items())
        if not (same and self.path.stat().st_size):
            raise OSError(
                f"{self.path}, its -wal or its -shm was removed or replaced while it was open;"
                " stop the service before you do so, and start it again"
            )

    def add(self, user: ConnectionPoolEntry) -> None:
        """Record that a connection has opened the files."""
        if not self._users:
            beside = os.path.realpath(self.path)  # where SQLite creates the other files
            paths = (self.path, Path(f"{beside}-wal"), Path(f"{beside}-shm"))
            self._opened = {path: _identity(path) for path in paths}
        self._users.add(user)

    def remove(self, user: ConnectionPoolEntry) -> None:
        """Record that a connection is closed. SQLite removes -wal and -shm with the last one."""
        self._users.discard(user)


class _Connection(sqlite3.Connection):
    """A connection that closes its cursors when it is closed.

    In Python 3.11, a cursor whose statement failed keeps the files open until it is collected.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        made = super().cursor(*arguments, **options)
        self._cursors.add(made)
        return made

    def close(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # the connection is closed already
            for each in self._cursors:
                each.close()
        super().close()


async def _connect(*place: Any, **options: Any) -> aiosqlite.Connection:
    """Connect; if the caller is cancelled, close the connection, which aiosqlite leaves open."""
    connection = aiosqlite.connect(*place, factory=_Connection, **options)
    connection._thread.daemon = True  # as SQLAlchemy sets it: it must not block the exit
    opening = asyncio.ensure_future(connection)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await (await opening).close()
        raise


def make_engine(settings: Settings) -> AsyncEngine:
    """Return an engine for DATABASE_URL, which opens the file when it is first used."""
    url = make_url(settings.database_url).set(drivername="sqlite+aiosqlite")
    engine = create_async_engine(
        url,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_timeout,
    )
    files = _Files(Path(str(url.database)))

    @event.listens_for(engine.sync_engine, "do_connect")
    def do_connect(_dialect: object, _record: object, _place: object, options: Any) -> None:
        files.check()  # otherwise SQLite would create a new file
        files.path.parent.mkdir(0o700, parents=True, exist_ok=True)
        options["async_creator_fn"] = _connect

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["deadline"] = inf

        def too_long() -> bool:
            return time.monotonic() > float(record.info["deadline"])

        connection.run_async(lambda driver: driver.set_progress_handler(too_long, _STEPS))
        connection.isolation_level = None  # otherwise Python begins transactions itself
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(settings.database_timeout * 1000)}")
        deadline = time.monotonic() + settings.database_timeout
        while True:
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait for another process that creates the same file.
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                connection.run_async(lambda _driver: asyncio.sleep(0.05))
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("SELECT 1 FROM sqlite_master")  # opens -wal and -shm
        cursor.close()
        files.add(record)

    @event.listens_for(engine.sync_engine, "close")
    def close(_connection: object, record: ConnectionPoolEntry) -> None:
        files.remove(record)

    @event.listens_for(engine.sync_engine, "handle_error")
    def reopen(context: ExceptionContext) -> None:
        # A connection that was opened read-only stays so, even if the file is writable again.
        if _code(context.original_exception) == sqlite3.SQLITE_READONLY:
            context.is_disconnect = True

    @event.listens_for(engine.sync_engine, "invalidate")
    def let_go(connection: Any, record: ConnectionPoolEntry, _error: object) -> None:
        # After a cancelled request: closing alone would wait for the statement, and hold the
        # lock until garbage collection.
        record.info["deadline"] = -inf
        with suppress(sqlite3.Error):
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that starts by reading cannot wait for the write lock, so writers use BEGIN
        # IMMEDIATE. Readers need no transaction: as in PostgreSQL, a statement sees current data.
        files.check()
        options = connection.get_execution_options()
        if options.get("migrating"):  # otherwise dropping a table deletes rows that refer to it
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        if options.get("writing"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def start(connection: Connection, *_: object) -> None:
        connection.info["deadline"] = time.monotonic() + settings.database_statement_timeout

    return engine


def _write_beside(path: str) -> None:
    """Raise OSError if the disk is full or read-only, which SQLite notices only on commit."""
    with TemporaryFile(dir=Path(path).parent) as file:
        file.write(bytes(4096))


async def check_writable(connection: AsyncConnection) -> None:
    """Raise an error unless the database is writable. Write nothing, and do not wait for a lock."""
    patience = await connection.scalar(text("PRAGMA busy_timeout"))
    try:
        await connection.execute(text("PRAGMA busy_timeout = 0"))
        await connection.execute(text("BEGIN IMMEDIATE"))
        await connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
        await connection.execute(text("ROLLBACK"))
    except DBAPIError as error:
        if _code(error.orig) != sqlite3.SQLITE_BUSY:  # busy: another connection writes
            await connection.invalidate()
            raise
    await connection.execute(text(f"PRAGMA busy_timeout = {patience}"))
    await asyncio.to_thread(_write_beside, str(connection.engine.url.database))


@contextmanager
def migrating(connection: Connection) -> Iterator[None]:
    """Allow tables to be dropped and created again, as most changes require in SQLite.

    Raises SystemExit if a foreign key refers to a missing row at the end.
    """
    yield
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
        raise SystemExit(f"Not migrated: these foreign keys would point nowhere: {broken}")


async def open_database(engine: AsyncEngine, settings: Settings) -> None:
    """Open the file once. Raises SystemExit if that fails."""
    try:
        async with engine.connect():
            pass
    except (DBAPIError, OSError) as error:
        await engine.dispose()
        reason = str(error).partition("\n")[0]
        raise SystemExit(f"Cannot start, {settings.database_url}: {reason}") from None
