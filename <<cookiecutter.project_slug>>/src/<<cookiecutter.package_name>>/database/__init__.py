"""The database: one engine for each worker, and a session for each request that needs one.

A handler that reads: ``async with request.config_dict[DATABASE].reading() as session:``; one that
also writes says ``writing()``, and redirects after that block: an exception undoes what it did.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from aiohttp import web
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

# % filter replace("sqlite", cookiecutter.database)
from ..settings import SETTINGS, Settings
from ..web import readiness
from .base import Base
from .sqlite import WRITERS, check_writable, is_away, make_engine, open_database

# % endfilter
__all__ = ["DATABASE", "Base", "Database", "setup"]

logger = logging.getLogger(__name__)


class Database:
    """The engine of a worker, and its sessions."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings; nothing is opened yet."""
        self.engine = make_engine(settings)
        self._readers = async_sessionmaker(self.engine, expire_on_commit=False)
        writing = self.engine.execution_options(writing=True)
        self._writers = async_sessionmaker(writing, expire_on_commit=False)
        self._turns = asyncio.Semaphore(WRITERS)
        self._patience = settings.database_timeout

    def reading(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a context with a session that writes nothing; each statement sees what is there.

        Raises web.HTTPServiceUnavailable when the database is away, or too slow.
        """
        return self._session(self._readers)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """Give a context with a session: committed at its end, rolled back when that is an error.

        Raises web.HTTPServiceUnavailable when the database is away, or too slow.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise _unavailable(error) from error
        try:
            async with self._session(self._writers) as session:
                yield session
        finally:
            self._turns.release()

    @asynccontextmanager
    async def _session(
        self, sessions: async_sessionmaker[AsyncSession]
    ) -> AsyncIterator[AsyncSession]:
        try:
            async with sessions.begin() as session:
                await self._connect(session)
                yield session
        except (DBAPIError, PoolTimeoutError, TimeoutError) as error:
            if not is_away(error):
                raise
            raise _unavailable(error) from error

    async def _connect(self, session: AsyncSession) -> None:
        """Fail here, where an OSError is the database's, and not one of what the session is for."""
        try:
            await session.connection()
        except OSError as error:
            raise _unavailable(error) from error

    async def check(self) -> None:
        """Raise an error unless the database answers, was migrated at all, and can be written to."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT version_num FROM alembic_version"))
            await check_writable(connection)

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """Keep connections as long as the application lives (a cleanup context).

        Raises SystemExit when there is no such database.
        """
        await open_database(self.engine, app[SETTINGS])
        yield
        await self.engine.dispose()


def _unavailable(error: Exception) -> web.HTTPServiceUnavailable:
    logger.error("the database is away: %s", str(error).partition("\n")[0] or repr(error))
    return web.HTTPServiceUnavailable(
        text="The database does not answer.", headers={"Retry-After": "2"}
    )


DATABASE: Final = web.AppKey("DATABASE", Database)


def setup(app: web.Application) -> None:
    """Give the application its database, and have /readyz ask it."""
    app[DATABASE] = Database(app[SETTINGS])
    app.cleanup_ctx.append(app[DATABASE].run)
    readiness.add_check(app, "database", app[DATABASE].check)
