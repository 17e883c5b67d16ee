"""Sessions on any database: transactions, limits, cancellation."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from aiohttp import hdrs, web
from sqlalchemy.exc import IntegrityError

# % filter replace("package_name", cookiecutter.package_name)
from package_name.database import DATABASE, Base, Database

from ..helpers import TIMEOUT, Client, until
from .helpers import timed_out

# % endfilter
ROWS = sa.Table(
    "rows_of_the_tests",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("moment", Base.type_annotation_map[datetime]),
)
SLOW = sa.text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000)"
    " SELECT count(*) FROM n"
)
"""Query that takes minutes."""


@pytest.fixture
def limits(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a small pool, and a statement timeout longer than the writers' wait for each other."""
    monkeypatch.setenv("DATABASE_POOL_SIZE", "2")
    monkeypatch.setenv("DATABASE_STATEMENT_TIMEOUT", str(10 * TIMEOUT))


@pytest.fixture
async def db(limits: None, client: Client) -> AsyncIterator[Database]:
    """Yield an application's database with the table ROWS; check that no connection stays open."""
    assert client.app
    db = client.app[DATABASE]
    async with db.engine.begin() as connection:
        await connection.run_sync(ROWS.metadata.create_all)
    yield db
    async with db.engine.begin() as connection:
        await connection.run_sync(ROWS.metadata.drop_all)
    assert "Checked out connections: 0" in db.engine.pool.status()


async def insert(db: Database, *numbers: int) -> None:
    async with db.writing() as session:
        for number in numbers:
            await session.execute(ROWS.insert().values(number=number))


async def numbers(db: Database) -> list[int]:
    async with db.reading() as session:
        return list(await session.scalars(sa.select(ROWS.c.number).order_by(ROWS.c.number)))


async def test_writing_commits_at_its_end_and_rolls_back_after_an_error(db: Database) -> None:
    assert await numbers(db) == []
    await insert(db, 1, 2)
    with pytest.raises(web.HTTPFound):
        async with db.writing() as session:
            await session.execute(ROWS.insert().values(number=3))
            raise web.HTTPFound("/")
    assert await numbers(db) == [1, 2]


async def test_errors_of_the_caller_are_not_turned_into_503(db: Database) -> None:
    with pytest.raises(IntegrityError):
        await insert(db, 1, 1)
    with pytest.raises(FileNotFoundError):  # an OSError, but not one of the database
        async with db.writing():
            raise FileNotFoundError
    assert await numbers(db) == []


async def test_datetime_is_returned_in_utc(db: Database) -> None:
    moment = datetime(2026, 3, 1, 0, 30, 0, 123456, timezone(timedelta(hours=2)))
    async with db.writing() as session:
        await session.execute(ROWS.insert().values(number=1, moment=moment))
    async with db.reading() as session:
        found = await session.scalar(sa.select(ROWS.c.moment).where(ROWS.c.moment == moment))
    assert found == moment
    assert found.tzinfo == UTC


async def test_exhausted_pool_is_503_with_retry_after(
    advance: Callable[[float], None], db: Database
) -> None:
    async with db.reading(), db.reading():
        error = await timed_out(numbers(db), advance)
    assert error.headers[hdrs.RETRY_AFTER] == "2"
    assert await numbers(db) == []


async def test_concurrent_writers_all_succeed(db: Database) -> None:
    await asyncio.gather(*(insert(db, number) for number in range(50)))
    assert await numbers(db) == list(range(50))


async def test_cancelled_statement_releases_its_connection_and_lock(db: Database) -> None:
    """Only cancellation does this: the statement's timeout is longer than a waiting writer's."""
    under_way = 0

    @sa.event.listens_for(db.engine.sync_engine, "before_cursor_execute")
    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal under_way
        under_way += statement == SLOW.text

    async def read() -> None:
        async with db.reading() as session:
            await session.execute(SLOW)

    async def write() -> None:
        async with db.writing() as session:
            await session.execute(ROWS.insert().values(number=1))
            await session.execute(SLOW)

    tasks = [asyncio.create_task(read()), asyncio.create_task(write())]
    await until(lambda: under_way == len(tasks))
    for task in tasks:
        task.cancel()
    await insert(db, 2)
    assert await numbers(db) == [2]
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_cancellation_at_any_moment_leaks_no_connection_and_commits_no_half(
    db: Database,
) -> None:
    tasks = [asyncio.create_task(insert(db, 2 * pair, 2 * pair + 1)) for pair in range(200)]
    for task in tasks:
        asyncio.get_running_loop().call_later(random.random() / 4, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    found = await numbers(db)
    assert found == [half for number in found[::2] for half in (number, number + 1)]
    await insert(db, 1000)
