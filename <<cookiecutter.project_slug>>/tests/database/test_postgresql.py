"""PostgreSQL only: a server that starts late, stops, hangs, and refuses connections."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient
from sqlalchemy import text

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.database import DATABASE, Database, setup
from package_name.database import postgresql as backend
from package_name.settings import load_settings
from package_name.web.context import SETTINGS

from ..helpers import TIMEOUT, Client, until
from .fixtures import alembic
from .helpers import is_ready, timed_out
from .postgresql import Server, postgresql


# % endfilter
@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run a server for this module alone: tests stop it, and some users need passwords."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        hba = Path(folder, "pg_hba.conf")
        hba.write_text("host all tests all trust\nhost all all all scram-sha-256\n")
        with postgresql("-F", "-c", f"hba_file={hba}") as server:
            alembic(server.url(), "upgrade", "heads")
            yield server


@pytest.fixture
def settings(database: None, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set DATABASE_URL to the server, and restart it if the test stopped it."""
    monkeypatch.setenv("DATABASE_URL", server.url())
    monkeypatch.setenv("DATABASE_POOL_SIZE", "2")
    monkeypatch.setenv("DATABASE_WAIT", str(TIMEOUT))
    yield
    if not server.running:
        server.start()


@pytest.fixture
def db(settings: None, client: Client) -> Database:
    assert client.app
    return client.app[DATABASE]


async def ask(db: Database, statement: str = "SELECT 1") -> Any:
    async with db.reading() as session:
        return await session.scalar(text(statement))


async def test_restart_of_the_server_between_requests_is_not_noticed(
    db: Database, server: Server
) -> None:
    await asyncio.gather(ask(db), ask(db))  # use both connections
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    assert [*await asyncio.gather(ask(db), ask(db))] == [1, 1]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_stopped_server_is_503_until_it_is_back(
    mode: str, db: Database, client: Client, server: Server
) -> None:
    assert await is_ready(client)
    with pytest.raises(web.HTTPServiceUnavailable):
        async with db.writing() as session:
            await session.execute(text("CREATE TABLE undone (id INTEGER)"))
            await asyncio.to_thread(server.stop, mode)
    with pytest.raises(web.HTTPServiceUnavailable):
        await ask(db)
    assert not await is_ready(client)
    await asyncio.to_thread(server.start)
    assert await is_ready(client)
    assert await ask(db, "SELECT to_regclass('undone')") is None


async def test_standby_is_read_and_not_ready_until_it_is_promoted(
    db: Database, client: Client, server: Server
) -> None:
    await asyncio.to_thread(server.stop)
    server.make_standby()
    await asyncio.to_thread(server.start)
    assert await ask(db) == 1
    assert not await is_ready(client)
    with pytest.raises(web.HTTPServiceUnavailable):
        async with db.writing() as session:
            await session.execute(text("CREATE TABLE undone (id INTEGER)"))
    with pytest.raises(SystemExit, match=r"Not migrated: .* in a read-only transaction"):
        await asyncio.to_thread(alembic, server.url(), "stamp", "--purge", "heads")
    assert await ask(db, "SELECT pg_promote()")
    assert await is_ready(client)


async def test_user_who_may_write_to_no_table_is_not_ready(
    db: Database, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with db.writing() as session:
        for statement in (
            "CREATE ROLE reader LOGIN PASSWORD 'secret'",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        ):
            await session.execute(text(statement))
    monkeypatch.setenv("DATABASE_URL", server.url().replace("tests@", "reader:secret@"))
    reader = Database(load_settings())
    assert await ask(reader) == 1
    with pytest.raises(OSError, match="this user may write to no table"):
        await reader.check()
    async with db.writing() as session:
        await session.execute(text("GRANT INSERT ON ALL TABLES IN SCHEMA public TO reader"))
    await reader.check()
    await reader.engine.dispose()


async def test_broken_connection_is_replaced(db: Database) -> None:
    with pytest.raises(web.HTTPServiceUnavailable):
        await ask(db, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert await ask(db) == 1


async def test_server_that_hangs_is_503(advance: Callable[[float], None], db: Database) -> None:
    pid = await ask(db, "SELECT pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    try:
        await timed_out(ask(db), advance)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await ask(db) == 1


async def test_slow_statement_is_503_and_rolled_back(db: Database) -> None:
    assert await ask(db, "SHOW statement_timeout") == f"{TIMEOUT / 60:g}min"
    with pytest.raises(web.HTTPServiceUnavailable):
        async with db.writing() as session:
            await session.execute(text("CREATE TABLE undone (id INTEGER)"))
            # For the next statement only.
            await session.execute(text("SET LOCAL statement_timeout = 50"))
            await session.execute(text("SELECT pg_sleep(600)"))
    assert await ask(db, "SELECT to_regclass('undone')") is None


async def refusal() -> str:
    """Return the error message of an application that fails to start."""
    app = web.Application()
    app[SETTINGS] = load_settings()
    setup(app)
    with pytest.raises(SystemExit) as caught:
        await web.AppRunner(app).setup()
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_start_waits_for_a_server_that_starts_later(
    settings: None,
    server: Server,
    aiohttp_client: AiohttpClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.stop()
    starting = asyncio.create_task(aiohttp_client(create_app()))
    await until(lambda: starting.done() or "waiting for " in caplog.text)
    await asyncio.to_thread(server.start)
    assert await is_ready(await starting)


@pytest.mark.parametrize(
    ("user", "name", "options", "reason"),
    [
        ("ada:secret", "postgres", "", 'password authentication failed for user "ada"'),
        ("tests:secret", "absent", "", 'database "absent" does not exist'),
        ("tests:secret", "postgres", "?sslmode=secret", "`sslmode` parameter must be one of"),
    ],
)
async def test_wrong_url_prevents_the_start_at_once(
    user: str,
    name: str,
    options: str,
    reason: str,
    settings: None,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = f"127.0.0.1:{server.port}/{name}"
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{user}@{place}{options}")
    message = await refusal()
    assert message.startswith(f"Cannot start, {place}: ")
    assert reason in message
    assert "secret" not in message
    assert "waiting" not in caplog.text


async def test_server_that_does_not_start_in_time_prevents_the_start(
    advance: Callable[[float], None],
    settings: None,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(backend, "PAUSE", 600)
    monkeypatch.setenv("DATABASE_WAIT", "900")
    server.stop()
    place = f"127.0.0.1:{server.port}/postgres"
    refused = asyncio.create_task(refusal())
    await until(lambda: caplog.text.count(f"waiting for {place}: ") == 1)
    advance(600)
    await until(lambda: caplog.text.count(f"waiting for {place}: ") == 2)
    advance(600)
    assert re.fullmatch(rf"Cannot start, {place}: \[Errno [0-9]+\] Connect.*", await refused)
    assert caplog.text.count(f"waiting for {place}: ") == 2


async def test_silent_server_prevents_the_start(
    settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}/postgres"
        monkeypatch.setenv("DATABASE_URL", f"postgresql://tests:secret@{place}")
        monkeypatch.setenv("DATABASE_WAIT", "0")
        monkeypatch.setenv("DATABASE_TIMEOUT", "0.1")
        assert await refusal() == f"Cannot start, {place}: TimeoutError()"


@pytest.mark.parametrize(
    "url",
    [
        *(
            "postgresql://u:secret@h",
            "sqlite:///secret",
            "postgresql://u:secret@h:port/x",
            "secret",
        ),
        *("postgresql://u:p#secret@h/x", "postgresql://u:secret@h:99999/x"),
    ],
)
def test_url_that_names_no_database_is_refused_and_not_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit, match="DATABASE_URL: name a database") as error:
        load_settings()
    assert "secret" not in str(error.value)


async def test_statement_prepared_before_a_migration_is_prepared_again(db: Database) -> None:
    async with db.writing() as session:
        await session.execute(text("CREATE TABLE changing (name VARCHAR(10))"))
    assert await ask(db, "SELECT name FROM changing") is None
    async with db.writing() as session:
        await session.execute(text("ALTER TABLE changing ALTER COLUMN name TYPE VARCHAR(20)"))
    answers = []
    for _ in range(4):
        try:
            answers.append(await ask(db, "SELECT name FROM changing"))
        except web.HTTPServiceUnavailable:
            answers.append(503)
    assert set(answers) <= {None, 503}
    assert answers[-1] is None
