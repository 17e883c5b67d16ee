"""The editor for news: a sub-application of the admin at /admin/news/."""

from aiohttp import web

from ...web import nesting, templating
from . import views


def setup(admin: web.Application) -> None:
    """Add the editor to the admin."""
    editor = web.Application()
    templating.extend(editor, __package__, admin)
    templating.add_to_menu(admin, "News", "admin:news:list")
    editor.add_routes(
        [
            web.get("/", views.page, name="list"),
            web.get("/new", views.blank, name="new"),
            web.post("/new", views.save, name="new"),
            web.get("/{id:[0-9]{1,18}}", views.edit, name="edit"),
            web.post("/{id:[0-9]{1,18}}", views.save, name="edit"),
            web.post("/{id:[0-9]{1,18}}/delete", views.delete, name="delete"),
        ]
    )
    nesting.nest(admin, "/news/", "news", editor)
