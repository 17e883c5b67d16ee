"""The smallest aiohttp application that renders a page with Jinja2: the reference of the baked one.

Its page is the baked index page as it was served, with the names as variables: of exactly the same
size, but one template without inheritance or helpers. BENCH_PAGE is the path of that page.
"""

import os
from pathlib import Path

import aiohttp_jinja2
from aiohttp import web
from jinja2 import DictLoader

NAMES = {
    "name": "My Service",
    "description": "A web application built on aiohttp.",
    "author": "Ada Lovelace",
}
PAGE = Path(os.environ["BENCH_PAGE"]).read_text()


def template() -> str:
    """Return the page as a template."""
    text = PAGE
    for key, value in NAMES.items():
        text = text.replace(value, f"{{{{ {key} }}}}")
    return text


async def page(request: web.Request) -> web.Response:
    """Render the page."""
    return aiohttp_jinja2.render_template("page.html", request, NAMES)


async def text(_request: web.Request) -> web.Response:
    """Return the same page without rendering it."""
    return web.Response(text=PAGE, content_type="text/html")


app = web.Application()
app.add_routes([web.get("/", page), web.get("/text", text)])
aiohttp_jinja2.setup(app, loader=DictLoader({"page.html": template()}), auto_reload=False)
