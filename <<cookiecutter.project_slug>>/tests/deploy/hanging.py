"""The application with handlers that block the event loop, for test_gunicorn_conf.py."""

import ctypes
import time
from pathlib import Path

from aiohttp import web

# % filter replace("package_name", cookiecutter.package_name)
from package_name import server


# % endfilter
async def sleep(_request: web.Request) -> web.Response:
    Path("sleeping").touch()  # noqa: ASYNC240
    while True:
        time.sleep(0.1)  # noqa: ASYNC251


async def lock(_request: web.Request) -> web.Response:
    """Hold the GIL and handle no signals, as a C extension may."""
    library = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(128)
    library.pthread_mutex_init(mutex, None)
    while True:  # the second call blocks
        library.pthread_mutex_lock(mutex)


async def make_runner() -> web.AppRunner:
    runner = await server.make_runner()
    runner.app.router.add_get("/sleep", sleep)
    runner.app.router.add_get("/lock", lock)
    return runner
