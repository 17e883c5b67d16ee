"""What any database has to do: sessions, limits, cancellation, readiness."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from aiohttp import hdrs, web
from sqlalchemy.exc import IntegrityError

# % filter replace("package_name", cookiecutter.package_name)
from package_name.database import DATABASE, Base, Database

from ..helpers import Client

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
"""Takes minutes."""


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_POOL_SIZE", "2")
    monkeypatch.setenv("DATABASE_TIMEOUT", "1")
    monkeypatch.setenv("DATABASE_STATEMENT_TIMEOUT", "2")


@pytest.fixture
async def db(limits: None, client: Client) -> AsyncIterator[Database]:
    """The database of an application, with a table for the test; everything is given back."""
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


async def test_what_is_written_is_kept_and_an_error_undoes_it(db: Database) -> None:
    assert await numbers(db) == []
    await insert(db, 1, 2)
    with pytest.raises(web.HTTPFound):
        async with db.writing() as session:
            await session.execute(ROWS.insert().values(number=3))
            raise web.HTTPFound("/")
    assert await numbers(db) == [1, 2]


async def test_a_mistake_in_what_is_written_is_not_the_databases_fault(db: Database) -> None:
    with pytest.raises(IntegrityError):
        await insert(db, 1, 1)
    with pytest.raises(FileNotFoundError):  # nor is what else goes wrong meanwhile
        async with db.writing():
            raise FileNotFoundError
    assert await numbers(db) == []


async def test_a_moment_comes_back_in_utc(db: Database) -> None:
    moment = datetime(2026, 3, 1, 0, 30, 0, 123456, timezone(timedelta(hours=2)))
    async with db.writing() as session:
        await session.execute(ROWS.insert().values(number=1, moment=moment))
    async with db.reading() as session:
        found = await session.scalar(sa.select(ROWS.c.moment).where(ROWS.c.moment == moment))
    assert found == moment
    assert found.tzinfo == UTC


async def test_who_finds_no_free_connection_is_told_to_come_again(db: Database) -> None:
    async with db.reading(), db.reading():
        with pytest.raises(web.HTTPServiceUnavailable) as caught:
            await numbers(db)
    assert caught.value.headers[hdrs.RETRY_AFTER] == "2"
    assert await numbers(db) == []


async def test_many_writers_wait_for_each_other(db: Database) -> None:
    await asyncio.gather(*(insert(db, number) for number in range(50)))
    assert await numbers(db) == list(range(50))


async def test_what_takes_too_long_is_stopped_and_undone(db: Database) -> None:
    with pytest.raises(web.HTTPServiceUnavailable):
        async with db.writing() as session:
            await session.execute(ROWS.insert().values(number=1))
            await session.execute(SLOW)
    await insert(db, 2)
    assert await numbers(db) == [2]


async def test_who_is_cancelled_lets_go_at_once(db: Database) -> None:
    """Sooner than the statement under way is too slow, and than the next one is tired of waiting."""
    begun = asyncio.Semaphore(0)

    async def read() -> None:
        async with db.reading() as session:
            begun.release()
            await session.execute(SLOW)

    async def write() -> None:
        async with db.writing() as session:
            await session.execute(ROWS.insert().values(number=1))
            begun.release()
            await session.execute(SLOW)

    tasks = [asyncio.create_task(read()), asyncio.create_task(write())]
    for _ in tasks:
        await begun.acquire()
    await asyncio.sleep(0.1)  # for the statements to be under way
    for task in tasks:
        task.cancel()
    await insert(db, 2)
    assert await numbers(db) == [2]
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_cancellation_loses_no_connection_and_leaves_no_half(db: Database) -> None:
    """Whenever it comes."""
    tasks = [asyncio.create_task(insert(db, 2 * pair, 2 * pair + 1)) for pair in range(200)]
    for task in tasks:
        asyncio.get_running_loop().call_later(random.random() / 4, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    found = await numbers(db)
    assert found == [half for number in found[::2] for half in (number, number + 1)]
    await insert(db, 1000)
