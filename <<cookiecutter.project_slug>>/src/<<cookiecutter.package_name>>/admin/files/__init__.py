"""Files: a sub-application of the admin at /admin/files/, for uploads and downloads."""

import asyncio

from aiohttp import web

from ...settings import Settings
from ...web import expect, nesting, templating
from . import views
from .store import Store


async def _open(app: web.Application) -> None:
    await asyncio.to_thread(app[views.STORE].open)


def setup(admin: web.Application, settings: Settings) -> None:
    """Add the files to the admin. Call it before the admin is nested in the application."""
    files = web.Application()
    files[views.STORE] = Store(settings.upload_folder)
    files.on_startup.append(_open)
    templating.extend(files, __package__, admin)
    templating.add_to_menu(admin, "Files", "admin:files:list")
    files.router.add_get("/", views.page, name="list")
    files.router.add_post("/", views.upload, name="upload", expect_handler=expect.wait)
    files.router.add_get("/{id:[0-9a-f]{32}}", views.download, name="download")
    files.router.add_post("/{id:[0-9a-f]{32}}/delete", views.delete, name="delete")
    nesting.nest(admin, "/files/", "files", files)
