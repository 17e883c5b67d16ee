"""The project under gunicorn with several workers, and with handlers that the tests need."""

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from conftest import (
    PRODUCTION,
    Project,
    Server,
    answers_at,
    free_port,
    gunicorn,
    started,
    wait_for,
)

T = TypeVar("T")

EXTRA = """
import asyncio
import logging
from time import monotonic
import aiojobs.aiohttp
from aiohttp import web
from {package} import server
from {package}.live import BUS, EVERYBODY

async def slow(request):
    await asyncio.sleep(float(request.query["seconds"]))
    return web.Response(text="slept")

async def echo(request):
    return web.Response(body=await request.read())

async def finish(request):
    await asyncio.sleep(float(request.query["seconds"]))
    logging.warning("finished what was begun")

async def begin(request):
    await aiojobs.aiohttp.spawn(request, finish(request))
    return web.Response()

async def publish(request):
    message = {{"type": "test", "number": int(request.query["number"]), "sent": monotonic()}}
    await request.app[BUS].publish(EVERYBODY, message)
    return web.Response()

plain = server.create_app

def create_app(settings):
    app = plain(settings)
    app.router.add_get("/slow", slow)
    app.router.add_post("/echo", echo)
    app.router.add_post("/begin", begin)
    app.router.add_post("/publish", publish)
    return app

server.create_app = create_app
make_runner = server.make_runner
"""
"""The project, and handlers that the tests need."""


@dataclass
class Workers:
    """A gunicorn and its workers."""

    server: Server
    port: int
    bus: Path
    started_in: float  # seconds, of all together

    @property
    def master(self) -> int:
        """The process that keeps the others."""
        return self.server.process.pid

    def pids(self) -> set[int]:
        """Return the workers."""
        return set(self.server.group()) - {self.master}

    def booted(self) -> set[int]:
        """Return the workers that have joined the bus, as one does when it starts."""
        return self.pids() & {int(path.name.partition("-")[0]) for path in self.bus.iterdir()}

    def wait_for_others(self, than: set[int]) -> None:
        """Return once as many workers have booted, and these have ended."""
        wait_for(
            lambda: len(self.booted()) == len(self.pids()) == len(than) and self.pids() != than,
            "new workers",
        )

    def hang_up(self) -> None:
        """Have the master replace all workers, and wait until it has."""
        before = self.pids()
        os.kill(self.master, signal.SIGHUP)
        wait_for(lambda: not before & self.pids(), "the old workers to end")
        self.wait_for_others(before)

    def replace_one(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop one worker, and wait until the master has started another."""
        before = self.pids()
        os.kill(min(before), number)
        wait_for(lambda: min(before) not in self.pids(), "the worker to end")
        self.wait_for_others(before)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do asynchronous work, in a thread: Playwright has a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def write_extra(project: Project, folder: Path) -> None:
    """Put EXTRA into the folder, as a module."""
    (folder / "extra.py").write_text(EXTRA.format(package=project.package))


@contextmanager
def workers(
    project: Project, folder: Path, *arguments: str, count: int = 2, **environment: str
) -> Iterator[Workers]:
    """Serve the project and EXTRA under gunicorn, on a TCP port and on a Unix socket."""
    write_extra(project, folder)
    port = free_port()
    listen = ["--bind", f"127.0.0.1:{port}", "--bind", f"unix:{folder}/server.sock"]
    options = ["--workers", str(count), *arguments, "extra:make_runner"]
    ready = answers_at(f"http://127.0.0.1:{port}/livez")
    began = time.monotonic()
    with TemporaryDirectory() as bus:  # whose path is short enough for the address of a socket
        variables = PRODUCTION | {"PYTHONPATH": str(folder), "BUS_URL": f"local:{bus}"}
        with started(
            gunicorn(project, *listen, *options),
            folder / "log",
            ready,
            project.path,
            **variables | environment,
        ) as server:
            found = Workers(server, port, Path(bus), 0)
            wait_for(lambda: len(found.booted()) == count, "the workers")
            found.started_in = time.monotonic() - began
            yield found
