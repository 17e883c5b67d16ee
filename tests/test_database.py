"""Both databases under load, with workers that are killed and a server that comes and goes."""

import asyncio
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
    Project,
    answers_at,
    clean_environment,
    cookiecutter,
    free_port,
    gunicorn,
    lines,
    postgresql,
    standalone,
    started,
    wait_for,
)
from workers import Workers, run, workers

pytestmark = pytest.mark.xdist_group("database")  # which is installed once more

TOKEN = "a-token-of-the-tests-that-is-long-enough"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="session")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with PostgreSQL, installed once."""
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
    """The PostgreSQL, if it is one."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    with TemporaryDirectory() as data:  # the tests' own folder lets nobody but root in
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
            with workers(project, folder, DATABASE_URL=url, API_TOKENS=TOKEN) as found:
                yield Site(found, url, server)
        finally:
            if server and server.running:
                server.stop("immediate")


class Writers:
    """Clients that write news without a pause, and note what came of it; each title is new."""

    def __init__(self, site: Site, name: str) -> None:
        self.url = f"http://127.0.0.1:{site.workers.port}/api/news"
        self.name = name
        self.acknowledged: set[str] = set()
        self.answers: Counter[object] = Counter()
        """By status, or kind of error."""
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
        """Write so many titles; fewer when stopped."""

        async def writer(number: int) -> None:
            for count in range(each):
                if self.stopped.is_set():
                    return
                await self._write(session, f"{self.name} {number} {count}")

        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(60)
        async with aiohttp.ClientSession(
            headers=HEADERS, connector=connector, timeout=timeout
        ) as session:
            await asyncio.gather(*(writer(number) for number in range(writers)))

    async def found(self) -> list[str]:
        """Return the titles that are kept, of those that were written here."""
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
        """Write, in a thread, while something else happens."""
        thread = threading.Thread(target=lambda: asyncio.run(self.write(writers, 10**6)))
        thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            thread.join()

    def wait_for(self, answer: object) -> None:
        """Return once there are some more answers of a kind."""
        before = self.answers[answer]
        wait_for(lambda: self.answers[answer] >= before + 20, f"20 times {answer}")

    def check(self) -> None:
        """Find everything that was acknowledged, and nothing twice."""
        found = run(self.found())
        assert len(set(found)) == len(found)
        assert self.acknowledged - set(found) == set()


def test_fifty_writers_at_once(site: Site) -> None:
    writers = Writers(site, "fifty")
    run(writers.write(50, 6))
    assert writers.answers == {201: 300}
    writers.check()
    assert len(run(writers.found())) == 300
    assert "database is locked" not in site.workers.server.output()
    assert not [line for line in lines(site.workers.server) if line["level"] == "error"]


def test_a_worker_is_killed_and_nothing_is_lost(site: Site) -> None:
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


@pytest.mark.parametrize("site", ["postgresql"], indirect=True)
def test_postgresql_stops_and_starts_under_load(site: Site) -> None:
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


@pytest.mark.parametrize("command", [standalone, gunicorn])
def test_a_service_waits_for_postgresql_but_not_for_ever(
    command: Any, on_postgresql: Project, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    listen = ("--bind", f"127.0.0.1:{port}") if command is gunicorn else ("--port", str(port))
    with TemporaryDirectory() as data:
        server = postgresql.Server(Path(data), "-F")
        place = f"127.0.0.1:{server.port}/postgres"
        variables = PRODUCTION | {"DATABASE_URL": server.url()}

        def waits() -> bool:
            return log.read_text().count(f"waiting for {place}") >= 6  # two a second

        with started(command(on_postgresql, *listen), log, waits, on_postgresql.path, **variables):
            server.start()
            wait_for(answers_at(f"http://127.0.0.1:{port}/livez"), "the service")
            server.stop()
        done = subprocess.run(
            command(on_postgresql, *listen),
            cwd=on_postgresql.path,
            env=clean_environment(**variables, DATABASE_WAIT="0.1"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert message.startswith(f"Cannot start, {place}: ")
