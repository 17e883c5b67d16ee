"""SQLite only: a file with one writer at a time."""

import asyncio
import gc
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.database import DATABASE, Database
from package_name.database.sqlite import make_engine, open_database
from package_name.settings import load_settings

from ..helpers import TIMEOUT, Client, until
from .fixtures import alembic
from .helpers import is_ready, timed_out
from .test_database import SLOW


# % endfilter
@pytest.fixture
def db(client: Client) -> Database:
    assert client.app
    return client.app[DATABASE]


@pytest.fixture
def other(database: None) -> Iterator[sqlite3.Connection]:
    """Yield a connection of another program, which does not wait for locks."""
    path = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def is_open(database: str) -> bool:
    """Return True if this process has opened the file, its -wal or its -shm."""
    files = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return any(str(file).startswith(database) for file in files)


async def write(db: Database) -> None:
    async with db.writing() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = version_num"))


async def read(db: Database) -> None:
    async with db.reading() as session:
        await session.execute(text("SELECT * FROM alembic_version"))


async def test_every_connection_has_its_pragmas(db: Database) -> None:
    async with AsyncExitStack() as stack:
        for number in range(5):
            context = db.writing() if number == 0 else db.reading()
            session = await stack.enter_async_context(context)
            found = [
                await session.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "busy_timeout", "foreign_keys")
            ]
            assert found == ["wal", 1000 * TIMEOUT, 1]


async def test_only_writers_take_the_lock_and_from_the_beginning(
    advance: Callable[[float], None], db: Database, other: sqlite3.Connection
) -> None:
    async with db.reading() as session:
        await session.execute(text("SELECT * FROM alembic_version"))
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    async with db.writing():
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        await read(db)  # needs no lock
        await timed_out(write(db), advance)  # queues in this process
    other.execute("BEGIN IMMEDIATE")


async def test_writer_waits_for_the_lock_of_another_program(
    db: Database, other: sqlite3.Connection
) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            loop.call_soon_threadsafe(begun.set)

    @event.listens_for(db.engine.sync_engine, "checkout")
    def trace(connection: Any, *_: object) -> None:
        connection.run_async(lambda driver: driver.set_trace_callback(note))

    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(write(db))
    await until(begun.is_set)
    await read(db)  # needs no lock
    other.execute("ROLLBACK")
    await writing


async def test_start_waits_for_another_that_makes_the_same_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/new.db")
    db = Database(load_settings())
    statements: list[str] = []

    @event.listens_for(db.engine.sync_engine, "connect", insert=True)
    def trace(connection: Any, *_: object) -> None:
        connection.run_async(lambda driver: driver.set_trace_callback(statements.append))

    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(open_database(db.engine, load_settings()))
        await until(lambda: statements.count("PRAGMA journal_mode = WAL") > 1 or opening.done())
        assert not opening.done()
        other.execute("ROLLBACK")
        await opening
    await db.engine.dispose()


async def test_lock_that_is_not_released_is_503(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, other: sqlite3.Connection
) -> None:
    monkeypatch.setenv("DATABASE_TIMEOUT", "0.05")  # SQLite counts on its own clock
    app = create_app()
    await aiohttp_client(app)
    db = app[DATABASE]
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(web.HTTPServiceUnavailable):
        await write(db)
    await read(db)
    other.execute("ROLLBACK")
    await write(db)


async def test_file_that_is_opened_for_a_cancelled_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, no_garbage_collection: None
) -> None:
    reached, released, opened = Event(), Event(), Event()
    connect = sqlite3.connect

    def held_up(*arguments: Any, **options: Any) -> sqlite3.Connection:
        reached.set()
        assert released.wait(TIMEOUT)
        connection: sqlite3.Connection = connect(*arguments, **options)
        opened.set()
        return connection

    monkeypatch.setattr(sqlite3, "connect", held_up)
    settings = load_settings()
    db = Database(settings)
    reading = asyncio.create_task(read(db))
    await until(reached.is_set)
    reading.cancel()
    await asyncio.sleep(0)
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until(opened.is_set)
    await until(lambda: not is_open(settings.database_url.removeprefix("sqlite:///")))
    await db.engine.dispose()


async def test_slow_statement_is_503_and_rolled_back(
    advance: Callable[[float], None], db: Database
) -> None:
    async def write_slowly() -> None:
        async with db.writing() as session:
            await session.execute(text("CREATE TABLE undone (id INTEGER)"))
            await session.execute(SLOW)

    await timed_out(write_slowly(), advance)
    async with db.writing() as session:  # the statement no longer blocks it
        tables = await session.scalars(text("SELECT name FROM sqlite_master"))
        assert "undone" not in tables.all()


async def test_full_database_is_503(db: Database) -> None:
    """The limit of pages acts like a full disk."""
    with pytest.raises(web.HTTPServiceUnavailable):
        async with db.writing() as session:
            # SQLite uses the current size instead
            await session.execute(text("PRAGMA max_page_count = 1"))
            await session.execute(text("CREATE TABLE too_much AS SELECT zeroblob(10000000)"))
    await read(db)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("backup.db"))
    path.with_name("backup.db").replace(path)


def replace_folder(path: Path) -> None:
    shutil.copytree(path.parent, path.parent.with_name("copy"))
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.with_name("copy").rename(path.parent)


def remove_wal(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def remove_shm(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def empty(path: Path) -> None:
    os.truncate(path, 0)


CHANGES = [remove, replace, replace_folder, remove_wal, remove_shm, empty]


@pytest.mark.parametrize("change", CHANGES)
async def test_file_that_is_removed_or_replaced_while_it_is_open_is_503(
    change: Callable[[Path], None],
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = tmp_path / "data/app.db"
    path.parent.mkdir()
    (tmp_path / "app.db").rename(path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
    app = create_app()
    client = await aiohttp_client(app)
    db = app[DATABASE]
    await write(db)
    assert await is_ready(client)
    async with db.reading():  # so that another connection is opened, too
        change(path)
        left = sorted(path.parent.iterdir())
        for use in (read, write):
            with pytest.raises(web.HTTPServiceUnavailable):
                await use(db)
    assert not await is_ready(client)
    assert sorted(path.parent.iterdir()) == left


async def test_files_may_be_new_when_no_connection_is_open(db: Database, tmp_path: Path) -> None:
    await db.engine.dispose()
    replace(tmp_path / "app.db")
    await db.check()
    await write(db)


async def test_long_writer_does_not_make_the_database_unready(
    client: Client, db: Database, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN IMMEDIATE")
    assert await is_ready(client)
    other.execute("ROLLBACK")
    async with db.reading() as session:  # on the same connection
        assert await session.scalar(text("PRAGMA busy_timeout")) == 1000 * TIMEOUT


async def test_readiness_leaves_no_trace(
    client: Client, db: Database, other: sqlite3.Connection, tmp_path: Path
) -> None:
    await write(db)
    files = [tmp_path / name for name in ("app.db", "app.db-wal")]
    before = [path.read_bytes() for path in files]
    for _ in range(3):
        assert await is_ready(client)
        other.execute("BEGIN IMMEDIATE")  # no one holds the lock
        other.execute("ROLLBACK")
    assert [path.read_bytes() for path in files] == before


@contextmanager
def read_only(database: Path) -> Iterator[Path]:
    """Yield a read-only copy in a writable folder, as the user nobody if the tests run as root."""
    user = os.geteuid()
    with TemporaryDirectory() as folder:
        copied = Path(shutil.copy(database, folder))
        copied.chmod(0o444)
        if user == 0:
            shutil.chown(folder, "nobody")
            shutil.chown(copied, "nobody")
            os.seteuid(copied.stat().st_uid)
        try:
            yield copied
        finally:
            os.seteuid(user)


async def test_file_that_can_only_be_read_is_read_and_not_ready_until_it_can_be_written_to(
    tmp_path: Path,
) -> None:
    settings = load_settings()
    with read_only(tmp_path / "app.db") as path:
        db = Database(settings.model_copy(update={"database_url": f"sqlite:///{path}"}))
        await read(db)
        with pytest.raises(DBAPIError, match="readonly"):
            await db.check()
        with pytest.raises(web.HTTPServiceUnavailable):
            await write(db)
        await read(db)
        for end in ("", "-wal", "-shm"):
            await asyncio.to_thread(Path(f"{path}{end}").chmod, 0o644)
        async with asyncio.timeout(TIMEOUT):
            while True:  # until all read-only connections are closed
                with suppress(DBAPIError):
                    await db.check()
                    break
        await write(db)
        await db.engine.dispose()


async def test_full_disk_is_noticed_before_anything_is_written(db: Database) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Limit the file size of this process to 1 byte.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            await db.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await db.check()


@pytest.fixture
def text_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set DATABASE_URL to a file that is not a database."""
    path = tmp_path / "text.db"
    path.write_text("This is a text, and not a database. " * 100)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")


async def test_application_does_not_start_on_a_file_that_is_not_a_database(
    text_file: None,
) -> None:
    message = r"^Cannot start, .*: \(sqlite3.DatabaseError\) file is not a database$"
    runner = web.AppRunner(create_app())
    with pytest.raises(SystemExit, match=message):
        await runner.setup()
    await runner.cleanup()


async def test_connection_that_is_found_to_be_read_only_is_closed(
    tmp_path: Path, no_garbage_collection: None
) -> None:
    settings = load_settings()
    with read_only(tmp_path / "app.db") as path:
        engine = make_engine(settings.model_copy(update={"database_url": f"sqlite:///{path}"}))
        async with engine.connect() as connection:
            assert is_open(str(path))
            with pytest.raises(DBAPIError, match="readonly"):
                await connection.execute(text("DELETE FROM alembic_version"))
        assert not is_open(str(path))


def test_url_in_a_folder_that_cannot_be_written_to_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:////proc/self/app.db")  # not even by root
    with pytest.raises(SystemExit, match="/proc/self is not a writable folder"):
        load_settings()


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///:memory:", "postgresql:///x", "x.db"])
def test_url_that_names_no_file_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url or "sqlite:///")
    with pytest.raises(SystemExit, match="DATABASE_URL: name a file"):
        load_settings()


def test_new_folder_is_private(tmp_path: Path) -> None:
    alembic(f"sqlite:///{tmp_path}/data/app.db", "upgrade", "heads")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
