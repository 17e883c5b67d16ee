"""Changes that an owner makes to a new project: one of each kind."""

from pathlib import Path

from conftest import Project

FEATURE = '''"""Teas, a feature of the owner's."""

import logging

from aiohttp import web
from aiohttp.typedefs import Handler
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from ..database import Base
from ..web import background, nesting, readiness, templating
from ..web.context import SETTINGS

logger = logging.getLogger(__name__)


class Tea(Base):
    """A tea."""

    __tablename__ = "teas"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)


async def page(request: web.Request) -> web.Response:
    """Answer the teas."""
    return templating.render(request, "teas.html", pot=request.config_dict[SETTINGS].tea_pot)


async def one(request: web.Request) -> web.Response:
    """Answer one tea, of any name."""
    raise web.HTTPNotFound


@web.middleware
async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log the request, and add a header to what the handler answers."""
    logger.info("a guest at %s", request.path)
    response = await handler(request)
    if not response.prepared:
        response.headers["X-Tea"] = "ready"
    return response


async def check() -> None:
    """Ask the kettle, which the tests do not have."""
    raise ConnectionError("no kettle")


async def boil(_app: web.Application) -> None:
    """Do the work of the application itself."""
    logger.info("the water boils")


async def greet(_app: web.Application) -> None:
    """Say at the start that there is tea."""
    logger.info("there is tea")


def extend_admin(admin: web.Application) -> None:
    """Add a page to the admin."""
    templating.add_to_menu(admin, "Teas", "admin:teas")
    admin.router.add_get("/teas", page, name="teas")


def setup(app: web.Application) -> None:
    """Add the teas to the site."""
    app.middlewares.append(count)
    templating.extend(app, __package__, app)
    templating.add_to_menu(app, "Teas", "teas")
    app.router.add_get("/teas", page, name="teas")
    app.router.add_get("/{tea:.*}", one, name="tea")
    app.on_startup.append(greet)
    background.supervise(app, background.every(60, boil))
    readiness.add_check(app, "kettle", check)
    shop = web.Application()
    templating.extend(shop, __package__, app)
    templating.add_to_menu(shop, "Shop", "shop:list")
    shop.router.add_get("/", page, name="list")
    nesting.nest(app, "/shop/", "shop", shop)
    nesting.offer(app, "admin", extend_admin)
'''

TEMPLATE = """{% extends "base.html" %}
{% block head %}<link rel="stylesheet" href="{{ static('teas.css') }}">{% endblock %}
{% block content %}<h1>Teas of the {{ pot }}</h1>{% endblock %}
"""

TEST = """import pytest

from ..helpers import Client


@pytest.mark.parametrize("path", ["/teas", "/shop/"])
async def test_page_shows_the_pot(path: str, client: Client) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        assert response.headers["X-Tea"] == "ready"
        assert "Teas of the blue pot" in await response.text()
"""


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text that occurs exactly once."""
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


def grow(project: Project) -> None:
    """Add a page with its route, template, menu entry and static files, a catch-all route,
    a failing readiness check, settings, a middleware, start-up and background tasks,
    a nested application, an admin page, and a model with its migration.
    """
    source = project.path / "src" / project.package
    (source / "teas/templates").mkdir(parents=True)
    (source / "teas/__init__.py").write_text(FEATURE)
    (source / "teas/templates/teas.html").write_text(TEMPLATE)
    (source / "static/teas.css").write_text("h1 { color: green; }\n")
    (source / "static/pots").mkdir()
    (source / "static/pots/blue.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>\n')
    replace(source / "app.py", "    site,\n", "    site,\n    teas,\n")
    replace(
        source / "app.py", "    admin.setup(app)\n", "    teas.setup(app)\n    admin.setup(app)\n"
    )
    field = "    environment: "
    settings = f'    tea_key: SecretStr\n    tea_pot: str = "blue pot"\n{field}'
    replace(source / "settings.py", field, settings)
    with (project.path / ".env.example").open("a") as example:
        example.write(
            "\n# The teas: the key of the shop, and the pot.\nTEA_KEY=key\nTEA_POT=blue pot\n"
        )
    required = "REQUIRED = {"
    replace(project.path / "tests/helpers.py", required, f'{required}"TEA_KEY": "key", ')
    (project.path / "tests/teas").mkdir()
    (project.path / "tests/teas/__init__.py").touch()
    (project.path / "tests/teas/test_teas.py").write_text(TEST)
    project.make("migration", "m=add teas")
    project.make("migrate")
