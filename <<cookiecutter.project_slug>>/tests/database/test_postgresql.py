"""What is PostgreSQL's own: a server that starts late, stops, hangs, and refuses."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Iterator
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
from package_name.settings import SETTINGS, load_settings

from ..helpers import Client
from .fixtures import alembic
from .postgresql import Server, postgresql


# % endfilter
@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for this module alone: it is stopped; and passwords are asked of some."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        hba = Path(folder, "pg_hba.conf")
        hba.write_text("host all tests all trust\nhost all all all scram-sha-256\n")
        with postgresql("-F", "-c", f"hba_file={hba}") as server:
            done = alembic(server.url(), "upgrade", "head")
            assert done.returncode == 0, done.stderr
            yield server


@pytest.fixture
def limits(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", server.url())
    monkeypatch.setenv("DATABASE_POOL_SIZE", "2")
    monkeypatch.setenv("DATABASE_STATEMENT_TIMEOUT", "1")
    yield
    if not server.running:
        server.start()


@pytest.fixture
def db(limits: None, client: Client) -> Database:
    assert client.app
    return client.app[DATABASE]


async def ask(db: Database, statement: str = "SELECT 1") -> Any:
    async with db.reading() as session:
        return await session.scalar(text(statement))


async def readyz(client: Client) -> tuple[int, object]:
    async with client.get("/readyz") as response:
        return response.status, (await response.json())["down"]


async def test_a_restart_of_the_server_between_requests_is_not_noticed(
    db: Database, server: Server
) -> None:
    await asyncio.gather(ask(db), ask(db))  # over both connections
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    assert [*await asyncio.gather(ask(db), ask(db))] == [1, 1]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_nobody_is_ready_while_the_server_is_away(
    mode: str, db: Database, client: Client, server: Server
) -> None:
    assert await readyz(client) == (200, [])
    with pytest.raises(web.HTTPServiceUnavailable):
        async with db.writing() as session:
            await session.execute(text("CREATE TABLE undone (id INTEGER)"))
            await asyncio.to_thread(server.stop, mode)
    with pytest.raises(web.HTTPServiceUnavailable):
        await ask(db)
    assert await readyz(client) == (503, ["database"])
    await asyncio.to_thread(server.start)
    assert await readyz(client) == (200, [])
    assert await ask(db, "SELECT to_regclass('undone')") is None


async def test_a_connection_that_is_cut_is_replaced(db: Database) -> None:
    with pytest.raises(web.HTTPServiceUnavailable):
        await ask(db, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert await ask(db) == 1


async def test_a_server_that_hangs_is_not_waited_for(db: Database) -> None:
    pid = await ask(db, "SELECT pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(web.HTTPServiceUnavailable):
            await ask(db)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await ask(db) == 1


async def refusal() -> str:
    """Return why an application does not start."""
    app = web.Application()
    app[SETTINGS] = load_settings()
    setup(app)
    with pytest.raises(SystemExit) as caught:
        await web.AppRunner(app).setup()
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_the_start_waits_for_a_server_that_starts_later(
    limits: None,
    server: Server,
    aiohttp_client: AiohttpClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.stop()
    starting = asyncio.create_task(aiohttp_client(create_app()))
    while not starting.done() and "waiting for " not in caplog.text:  # noqa: ASYNC110  # a log sets no event
        await asyncio.sleep(0.05)
    await asyncio.to_thread(server.start)
    assert await readyz(await starting) == (200, [])


@pytest.mark.parametrize(
    ("user", "name", "options", "reason"),
    [
        ("ada:secret", "postgres", "", 'password authentication failed for user "ada"'),
        ("tests:secret", "absent", "", 'database "absent" does not exist'),
        ("tests:secret", "postgres", "?sslmode=secret", "`sslmode` parameter must be one of"),
    ],
)
async def test_what_waiting_does_not_mend_is_refused_at_once(
    user: str,
    name: str,
    options: str,
    reason: str,
    limits: None,
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


async def test_a_server_that_never_starts_is_waited_for_and_given_up(
    limits: None,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("DATABASE_WAIT", "0.6")
    server.stop()
    place = f"127.0.0.1:{server.port}/postgres"
    assert re.fullmatch(rf"Cannot start, {place}: \[Errno [0-9]+\] Connect.*", await refusal())
    assert caplog.text.count(f"waiting for {place}: ") == 2


async def test_a_server_that_says_nothing_is_given_up(
    limits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}/postgres"
        monkeypatch.setenv("DATABASE_URL", f"postgresql://tests:secret@{place}")
        monkeypatch.setenv("DATABASE_WAIT", "0")
        monkeypatch.setenv("DATABASE_TIMEOUT", "0.3")
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
def test_the_url_names_a_database_and_is_not_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit, match="DATABASE_URL: name a database") as error:
        load_settings()
    assert "secret" not in str(error.value)


async def test_what_was_prepared_before_a_migration_is_tried_again(db: Database) -> None:
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
