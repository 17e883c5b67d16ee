"""The application, with handlers that block the event loop; started by test_gunicorn_conf.py."""

import time
import unicodedata
from pathlib import Path

from aiohttp import web

# % filter replace("package_name", cookiecutter.package_name)
from package_name import server


# % endfilter
async def sleep(_request: web.Request) -> web.Response:
    Path("sleeping").touch()  # noqa: ASYNC240
    while True:
        time.sleep(0.1)  # noqa: ASYNC251


async def normalize(_request: web.Request) -> web.Response:
    """Hold the interpreter's lock, and do not look for signals, for some minutes."""
    unicodedata.normalize("NFKC", "\u0301\u0316" * 500_000)
    raise AssertionError


async def make_runner() -> web.AppRunner:
    runner = await server.make_runner()
    runner.app.router.add_get("/sleep", sleep)
    runner.app.router.add_get("/normalize", normalize)
    return runner
