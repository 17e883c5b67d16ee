"""The project under gunicorn with several workers, and the handlers that the tests add to it."""

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from conftest import (
    PRODUCTION,
    TIMEOUT,
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
import os
import aiojobs.aiohttp
from aiohttp import web
from {package} import server
from {package}.live import BUS, EVERYBODY

async def slow(request):
    await asyncio.sleep(float(request.query["seconds"]))
    return web.Response(text="slept")

async def hold(request):
    logging.warning("held")
    while not os.path.exists(request.query["until"]):
        await asyncio.sleep(0.02)

async def held(request):
    await hold(request)
    return web.Response(text="released")

async def work(request):
    await hold(request)
    logging.warning("finished")

async def begin(request):
    await aiojobs.aiohttp.spawn(request, work(request))
    return web.Response()

async def echo(request):
    return web.Response(body=await request.read())

async def client(request):
    return web.json_response([request.remote, request.scheme, request.host])

async def publish(request):
    message = {{"type": "test", "number": int(request.query["number"])}}
    await request.app[BUS].publish(EVERYBODY, message)
    return web.Response()

create_plain_app = server.create_app

def create_app(settings):
    app = create_plain_app(settings)
    app.router.add_get("/slow", slow)
    app.router.add_get("/held", held)
    app.router.add_get("/client", client)
    app.router.add_post("/begin", begin)
    app.router.add_post("/echo", echo)
    app.router.add_post("/publish", publish)
    return app

server.create_app = create_app
make_runner = server.make_runner
"""
"""Handlers added to the project: ``/held`` responds, and the tasks of ``/begin`` finish, once
the file that ``until`` names exists."""

LATER = """
import sys
from importlib.util import find_spec

class AfterServer:
    def find_spec(self, name, path=None, target=None):
        if name != "{package}.server":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            exec({code!r}, {{}})

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, AfterServer())
"""


def customized(package: str, more: str = "") -> str:
    """Return a sitecustomize.py that adds EXTRA to the project's server. Every Python imports it.

    EXTRA waits for that import: gunicorn's master and other programs do not import the project.
    """
    return LATER.format(package=package, code=EXTRA.format(package=package) + more)


@dataclass
class Workers:
    """A gunicorn and its workers."""

    server: Server
    port: int
    bus: Path

    @property
    def base(self) -> str:
        """The URL without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def master(self) -> int:
        """The process id of the master."""
        return self.server.process.pid

    def pids(self) -> set[int]:
        """Return the process ids of the workers."""
        return set(self.server.group()) - {self.master}

    def booted(self) -> set[int]:
        """Return the workers that have joined the bus, as each one does at start-up."""
        return self.pids() & {int(path.name.partition("-")[0]) for path in self.bus.iterdir()}

    def wait_until_replaced(self, ended: set[int], before: set[int]) -> None:
        """Wait until these workers have ended, and as many as before have booted."""
        wait_for(lambda: not ended & self.pids(), f"the workers {ended} to end")
        wait_for(
            lambda: len(self.booted()) == len(self.pids()) == len(before), "new workers to boot"
        )

    def reload(self) -> None:
        """Make the master replace all workers, and wait until it has."""
        before = self.pids()
        os.kill(self.master, signal.SIGHUP)
        self.wait_until_replaced(before, before)

    def replace_one(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End one worker, and wait until the master has started another."""
        before = self.pids()
        os.kill(min(before), number)
        self.wait_until_replaced({min(before)}, before)

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """Suspend all other workers, so that this one accepts every new connection."""
        others = self.pids() - {worker}
        try:
            for pid in others:
                os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: all(state(pid) == "T" for pid in others), "the others to stop")
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)


def state(pid: int) -> str:
    """Return the state of a process, such as T for stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread, because Playwright runs an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def write_extra(project: Project, folder: Path) -> None:
    """Write EXTRA into the folder, as a module."""
    (folder / "extra.py").write_text(EXTRA.format(package=project.package))


@contextmanager
def workers(
    project: Project, folder: Path, *arguments: str, **environment: str
) -> Iterator[Workers]:
    """Serve the project and EXTRA under gunicorn, on a TCP port and a Unix socket."""
    write_extra(project, folder)
    count = int(environment.get("WEB_CONCURRENCY", 2))
    port = int(environment.get("PORT", 0)) or free_port()
    listen = ["--bind", f"127.0.0.1:{port}", "--bind", f"unix:{folder}/server.sock"]
    # gunicorn kills workers that do not respond for longer, as on a busy machine.
    options = ["--timeout", f"{TIMEOUT:.0f}", *arguments]
    ready = answers_at(f"http://127.0.0.1:{port}/livez")
    with TemporaryDirectory() as bus:  # its path is short enough for a socket address
        variables = PRODUCTION | {"PYTHONPATH": str(folder), "BUS_URL": f"local:{bus}"}
        with started(
            gunicorn(project, *listen, *options, "extra:make_runner"),
            folder / "log",
            ready,
            project.path,
            **variables | environment,
        ) as server:
            found = Workers(server, port, Path(bus))
            wait_for(lambda: len(found.booted()) == count, f"{count} workers to boot")
            yield found
