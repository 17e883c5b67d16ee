"""A PostgreSQL server for tests: the system's programs, with files in a temporary folder."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

OWNER = "tests"


def _program(name: str) -> str:
    """Return the path of a program that Debian does not put on the path. Raise RuntimeError."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    program = shutil.which(name) or next(map(str, reversed(found)), None)
    if program is None:
        raise RuntimeError(f"{name} is missing; on Debian: apt-get install postgresql")
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server that can be stopped and started, on 127.0.0.1 and on a socket in its folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Create a cluster in the folder; the options are those of the program ``postgres``."""
        self.port = _free_port()
        self._data, self._log = folder / "data", folder / "log"
        self._options = ["-p", str(self.port), "-k", str(folder), "-h", "127.0.0.1", *options]
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = (
            {"user": "nobody", "extra_groups": []} if not os.geteuid() else {}
        )
        if self._as:
            shutil.chown(folder, "nobody")
        names = [
            "--username",
            OWNER,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
        ]
        self._run("initdb", "--no-sync", *names)

    def _run(self, name: str, *arguments: str) -> None:
        command = [_program(name), "--pgdata", str(self._data), *arguments]
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server keeps it open
            stderr=subprocess.PIPE if name == "initdb" else subprocess.DEVNULL,
            text=True,
            check=False,
            **self._as,
        )
        if done.returncode:
            raise RuntimeError(done.stderr or self._log.read_text())

    def start(self) -> None:
        """Start the server, and return once it accepts connections."""
        options = " ".join(self._options)
        self._run("pg_ctl", "start", "--wait", "--silent", "--log", str(self._log), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server, and wait: ``smart``, ``fast``, or ``immediate`` (a crash)."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", mode)

    def make_standby(self) -> None:
        """Start it as a standby from now on, which is read-only until it is promoted."""
        (self._data / "standby.signal").touch()

    @property
    def running(self) -> bool:
        """Return True if the server was started, and not stopped since."""
        return (self._data / "postmaster.pid").exists()

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Create a database, and return its URL."""
        command = [_program("createdb"), "--maintenance-db", self.url(), database]
        subprocess.run(command, check=True)
        return self.url(database)


@contextmanager
def postgresql(*options: str) -> Iterator[Server]:
    """Run a server, and delete its files at the end."""
    with TemporaryDirectory(prefix="postgresql-") as folder:
        server = Server(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            if server.running:
                server.stop("immediate")


@contextmanager
def new_databases() -> Iterator[Callable[[], str]]:
    """Yield a function that creates a database on this process's server and returns its URL."""
    numbers = count(1)
    with postgresql("-F") as server:  # writes without waiting for the disk
        yield lambda: server.create(f"database_{next(numbers)}")


@contextmanager
def empty_databases(migrated: str) -> Iterator[Callable[[Path], str]]:
    """Yield a function that empties all tables of a migrated database and returns its URL."""
    # Imported here because the template's own tests load this file without it.
    import asyncpg  # type: ignore[import-untyped]

    # One connection for all tests, on its own loop, because each test has another one.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        connection = runner.run(asyncpg.connect(migrated))
        tables = runner.run(
            connection.fetchval(
                "SELECT string_agg(format('%I', tablename), ', ') FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            )
        )

        def empty(_folder: Path) -> str:
            if tables:
                runner.run(connection.execute(f"TRUNCATE {tables} RESTART IDENTITY"))
            return migrated

        try:
            yield empty
        finally:
            runner.run(connection.close())
