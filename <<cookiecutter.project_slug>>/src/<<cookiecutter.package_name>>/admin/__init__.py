"""The admin: a sub-application at /admin/ for signed-in users.

To remove it, delete this package, tests/admin/ and the line in app.py.
"""

from aiohttp import web

from ..web import nesting, templating
from ..web.context import SETTINGS
from . import access, accounts, announce, files, logs, overview, sign_in


def setup(app: web.Application) -> None:
    """Add the admin to the application."""
    settings = app[SETTINGS]
    admin = web.Application()
    templating.extend(admin, __package__, app)
    templating.add_to_menu(admin, "Overview", "admin:overview")
    access.setup(admin, settings, public={sign_in.page, sign_in.enter})
    accounts.setup(admin, settings.admin_users)
    admin.on_startup.append(overview.note_start)
    admin.add_routes(
        [
            web.get("/", overview.overview, name="overview"),
            web.get("/login", sign_in.page, name="login"),
            web.post("/login", sign_in.enter, name="login"),
            web.post("/logout", sign_in.leave, name="logout"),
            web.post("/announce", announce.announce, name="announce"),
        ]
    )
    files.setup(admin, settings)
    logs.setup(app, admin, settings)
    nesting.nest(app, "/admin/", "admin", admin)
    if settings.development:
        templating.add_to_menu(app, "Admin", "admin:overview")
