"""The baked application without some layers, for gunicorn: ``layers:make_runner``.

BENCH_WITHOUT lists the layers, separated by commas. BENCH_PAGE is the path of the page that is
returned if ``page`` is one of them.
"""

import os
from pathlib import Path

from aiohttp import hdrs, web
from my_service import server
from my_service.site import pages

PAGE = Path(os.environ["BENCH_PAGE"]).read_text()
WITHOUT = os.environ["BENCH_WITHOUT"].split(",")


async def constant(_request: web.Request) -> web.Response:
    """Return the page without rendering it."""
    headers = {hdrs.CACHE_CONTROL: pages.REVALIDATE}
    return web.Response(text=PAGE, content_type="text/html", headers=headers)


async def make_runner() -> web.AppRunner:
    """Return the runner of the baked ``server.make_runner``, without some layers."""
    if "page" in WITHOUT:
        pages.index = constant
    if "log" in WITHOUT:
        os.environ["LOG_LEVEL"] = "WARNING"
    runner = await server.make_runner()
    if "headers" in WITHOUT:
        runner.app.on_response_prepare.clear()
    if "middlewares" in WITHOUT:
        runner.app.middlewares.clear()
    return runner
