"""The database: one engine for each worker, and a session for each request that needs one.

A handler that reads uses ``async with request.config_dict[DATABASE].reading() as session:``. A
handler that writes uses ``writing()``. An exception rolls it back: redirect after the block.
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
from ..settings import Settings
from ..web import readiness
from ..web.context import SETTINGS
from .base import Base
from .sqlite import WRITERS, check_writable, is_away, make_engine, open_database

# % endfilter
__all__ = ["DATABASE", "Base", "Database", "setup"]

logger = logging.getLogger(__name__)


class Database:
    """The engine of a worker, and its sessions."""

    def __init__(self, settings: Settings) -> None:
        """Create the database from the settings, without connecting."""
        self.engine = make_engine(settings)
        self._readers = async_sessionmaker(self.engine, expire_on_commit=False)
        writing = self.engine.execution_options(writing=True)
        self._writers = async_sessionmaker(writing, expire_on_commit=False)
        self._turns = asyncio.Semaphore(WRITERS)
        self._patience = settings.database_timeout

    def reading(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a context with a session for reading; each statement sees all committed data.

        Raises web.HTTPServiceUnavailable if the database is unavailable, or too slow.
        """
        return self._session(self._readers)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """Return a context with a session that is committed at the end, or rolled back on errors.

        Raises web.HTTPServiceUnavailable if the database is unavailable, or too slow.
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
        """Connect now: an OSError here is the database's, not one of the code in the session."""
        try:
            await session.connection()
        except OSError as error:
            raise _unavailable(error) from error

    async def check(self) -> None:
        """Raise an error unless the database responds, has been migrated and is writable."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT version_num FROM alembic_version"))
            await check_writable(connection)

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """Open the database, and close its connections on clean-up (a cleanup context).

        Raises SystemExit if the database cannot be opened.
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
    """Add the database to the application, and its check to /readyz."""
    app[DATABASE] = Database(app[SETTINGS])
    app.cleanup_ctx.append(app[DATABASE].run)
    readiness.add_check(app, "database", app[DATABASE].check)
