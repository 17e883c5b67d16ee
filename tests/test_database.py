"""Both databases under load, while workers are killed and PostgreSQL is stopped and started."""

import asyncio
import re
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest
from conftest import (
    PRODUCTION,
    TIMEOUT,
    Project,
    answers_at,
    clean_environment,
    client,
    cookiecutter,
    free_port,
    gunicorn,
    lines,
    postgresql,
    standalone,
    started,
    wait_for,
)
from needs import needs
from stack import Stack, publish, stack
from workers import Workers, run, workers

pytestmark = pytest.mark.xdist_group("database")  # the tests share one more installed project

TOKEN = "a-token-of-the-tests-that-is-long-enough"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="session")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Bake and install the project with PostgreSQL, once."""
    folder = tmp_path_factory.mktemp("postgresql") / "out"
    folder.mkdir()
    done = cookiecutter(folder, "database=postgresql")
    assert done.returncode == 0, done.stderr
    project = Project(folder / "my-service", "my_service")
    project.make("install")
    return project


@dataclass
class Site:
    """The project under gunicorn, with two workers and a database."""

    workers: Workers
    url: str
    server: Any = None
    """The PostgreSQL server, or None for SQLite."""


POSTGRESQL = pytest.param("postgresql", marks=needs("initdb"))


@pytest.fixture(scope="module", params=["sqlite", POSTGRESQL])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    with TemporaryDirectory() as data:  # only root can enter the tests' own folder
        if request.param == "sqlite":
            project, server = request.getfixturevalue("installed"), None
            url = f"sqlite:///{data}/app.db"
        else:
            project = request.getfixturevalue("on_postgresql")
            server = postgresql.Server(Path(data))
            server.start()
            url = server.url()
        try:
            project.make("migrate", DATABASE_URL=url)
            # On a busy machine, fifty writers wait longer than a client would.
            limit = f"{TIMEOUT:.0f}"
            variables = {
                "DATABASE_URL": url,
                "DATABASE_TIMEOUT": limit,
                "DATABASE_STATEMENT_TIMEOUT": limit,
                "API_TOKENS": TOKEN,
            }
            with workers(project, folder, **variables) as found:
                yield Site(found, url, server)
        finally:
            if server and server.running:
                server.stop("immediate")


class Writers:
    """Clients that create news items without pause, each with a new title; count the responses."""

    def __init__(self, site: Site, name: str) -> None:
        self.url = f"http://127.0.0.1:{site.workers.port}/api/news"
        self.name = name
        self.acknowledged: set[str] = set()
        self.answers: Counter[object] = Counter()
        """Number of responses by status; ``cut`` counts lost connections."""
        self.stopped = threading.Event()

    async def _write(self, session: aiohttp.ClientSession, title: str) -> None:
        try:
            async with session.post(self.url, json={"title": title, "body": "Text"}) as response:
                status = response.status
                await response.read()
        except aiohttp.ClientConnectionError:
            self.answers["cut"] += 1
            await asyncio.sleep(0.05)
            return
        self.answers[status] += 1
        if status == 201:
            self.acknowledged.add(title)
        else:
            await asyncio.sleep(0.05)

    async def write(self, writers: int, each: int) -> None:
        """Let each writer write ``each`` titles; fewer if stopped."""

        async def writer(number: int) -> None:
            for count in range(each):
                if self.stopped.is_set():
                    return
                await self._write(session, f"{self.name} {number} {count}")

        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(TIMEOUT)
        async with aiohttp.ClientSession(
            headers=HEADERS, connector=connector, timeout=timeout
        ) as session:
            await asyncio.gather(*(writer(number) for number in range(writers)))

    async def found(self) -> list[str]:
        """Return the titles in the database that these clients wrote."""
        titles: list[str] = []
        page: str | None = self.url
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            while page:
                async with session.get(page, raise_for_status=True) as response:
                    found = await response.json()
                titles += [item["title"] for item in found["items"]]
                page = found["next"]
        return [title for title in titles if title.startswith(f"{self.name} ")]

    @contextmanager
    def writing(self, writers: int) -> Iterator[None]:
        """Write from a thread while the block runs."""
        thread = threading.Thread(target=lambda: asyncio.run(self.write(writers, 10**6)))
        thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            thread.join()

    def wait_for(self, answer: object) -> None:
        """Wait for twenty more responses of a kind."""
        before = self.answers[answer]
        wait_for(lambda: self.answers[answer] >= before + 20, f"20 times {answer}")

    def check(self) -> None:
        """Check that the database has every acknowledged title exactly once."""
        found = run(self.found())
        assert len(set(found)) == len(found)
        assert self.acknowledged - set(found) == set()


def test_concurrent_writers_all_succeed(site: Site) -> None:
    writers, before = Writers(site, "fifty"), len(lines(site.workers.server))
    run(writers.write(50, 6))
    assert writers.answers == {201: 300}
    writers.check()
    assert len(run(writers.found())) == 300
    log = lines(site.workers.server)[before:]
    assert not [line for line in log if line["level"] == "error"]
    assert not [line for line in log if "database is locked" in str(line)]


def test_killed_worker_loses_no_acknowledged_write(site: Site) -> None:
    writers = Writers(site, "killed")
    with writers.writing(10):
        for _ in range(2):
            writers.wait_for(201)
            site.workers.replace_one(signal.SIGKILL)
        writers.wait_for(201)
    assert set(writers.answers) <= {201, "cut"}
    writers.check()
    if site.url.startswith("sqlite"):
        with closing(sqlite3.connect(site.url.removeprefix("sqlite:///"))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("site", [POSTGRESQL], indirect=True)
def test_stopped_postgresql_is_503_and_the_workers_survive(site: Site) -> None:
    writers = Writers(site, "stopped")
    before = site.workers.pids()
    with writers.writing(10):
        for mode in ("fast", "immediate"):
            writers.wait_for(201)
            site.server.stop(mode)
            writers.wait_for(503)
            site.server.start()
            writers.wait_for(201)
    assert set(writers.answers) == {201, 503}
    writers.check()
    assert site.workers.pids() == before


@needs("initdb")
@pytest.mark.parametrize("command", [standalone, gunicorn])
def test_server_waits_for_postgresql_up_to_database_wait(
    command: Any, on_postgresql: Project, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    listen = ("--bind", f"127.0.0.1:{port}") if command is gunicorn else ("--port", str(port))
    with TemporaryDirectory() as data:
        server = postgresql.Server(Path(data), "-F")
        place = f"127.0.0.1:{server.port}/postgres"
        variables = PRODUCTION | {"DATABASE_URL": server.url()}

        def waits() -> bool:
            return log.read_text().count(f"waiting for {place}") >= 2

        patient = variables | {"DATABASE_WAIT": f"{TIMEOUT:.0f}"}
        with started(command(on_postgresql, *listen), log, waits, on_postgresql.path, **patient):
            server.start()
            wait_for(answers_at(f"http://127.0.0.1:{port}/livez"), "the server")
            server.stop()
        done = subprocess.run(
            command(on_postgresql, *listen),
            cwd=on_postgresql.path,
            env=clean_environment(**variables, DATABASE_WAIT="0.1"),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert message.startswith(f"Cannot start, {place}: ")


def documented(project: Project, folder: Path, *programs: str) -> None:
    """Run the matching commands of deploy/README.md as this user, on the folder's database."""
    readme = (project.path / "deploy/README.md").read_text()
    for program in programs:
        (command,) = re.findall(rf"^    runuser -u my-service -- ({program} .+)$", readme, re.M)
        subprocess.run(["sh", "-c", command], cwd=folder, check=True)


def titles(found: Stack) -> set[str]:
    with client() as http:
        answer = http.get(f"{found.base}/api/news", headers=HEADERS)
    assert answer.status_code == 200
    return {item["title"] for item in answer.json()["items"]}


@needs("nginx", "user namespaces", "sqlite3")
def test_lost_file_takes_no_writes_and_its_copy_is_put_back_as_documented(
    installed: Project,
) -> None:
    """The database then has a revision of a newer version."""
    with TemporaryDirectory() as name:
        folder, file = Path(name), Path(name, "data/app.db")
        variables = {"DATABASE_URL": f"sqlite:///{file}", "API_TOKENS": TOKEN}
        with stack(installed, "gunicorn", **variables) as found, client() as http:
            assert http.get(f"{found.base}/readyz").status_code == 200
            publish(http, found.base, "Kept")
            documented(installed, folder, "sh -c 'umask")
            copy = file.with_name("backup.db")
            assert copy.stat().st_mode & 0o777 == 0o600
            publish(http, found.base, "Later than the copy")
            file.unlink()
            for _ in range(10):  # both workers
                assert http.get(f"{found.base}/readyz").json()["down"] == ["database"]
                with pytest.raises(AssertionError):
                    publish(http, found.base, "Lost")
            assert not file.exists()
            said = "removed or replaced while it was open"
            wait_for(lambda: said in found.server.output(), "the log to say so")
        documented(installed, folder, "rm", "install")
        assert file.stat().st_mode & 0o777 == 0o600
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'newer'")
            connection.commit()
        with stack(installed, "gunicorn", **variables) as found, client() as http:
            assert "no revision newer; its tables are left as they are" in found.server.output()
            assert titles(found) == {"Kept"}
            publish(http, found.base, "Afterwards")
            assert http.get(f"{found.base}/readyz").status_code == 200


STARTS = {
    "Makefile": "@$(BIN)/alembic upgrade heads",
    "deploy/start.sh": 'set -- "$bin/alembic" upgrade heads',
    "deploy/docker/prestart.sh": "alembic upgrade heads",
    "deploy/docker/compose.yaml": "entrypoint: [alembic, upgrade, heads]",
    "deploy/systemd/app.service": "ExecStartPre={{ bin }}/alembic upgrade heads",
}


def test_every_way_to_start_migrates_in_the_same_way(installed: Project) -> None:
    found = {}
    for path in installed.path.rglob("*"):
        if path.is_file() and {".venv", "tests", "README.md"}.isdisjoint(path.parts):
            for line in path.read_text(errors="replace").splitlines():
                if re.search(r"alembic\W+upgrade", line):
                    name = str(path.relative_to(installed.path))
                    assert name not in found
                    found[name] = line.strip()
    assert found == STARTS
