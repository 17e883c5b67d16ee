"""The admin: an application nested at /admin/, with its own templates and middlewares.

To take it out, delete this package, tests/test_admin.py and the line in app.py.
"""

from aiohttp import web
from aiohttp.typedefs import Handler

from ..settings import SETTINGS
from ..web import nesting, templating
from . import views


@web.middleware
async def development_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody in but in development, as there is no sign-in."""
    if not request.config_dict[SETTINGS].development:
        raise web.HTTPForbidden
    return await handler(request)


def setup(app: web.Application) -> None:
    """Nest the admin in the site."""
    settings = app[SETTINGS]
    admin = web.Application(middlewares=[development_only])
    templating.setup(admin, __package__, development=settings.development)
    admin.on_startup.append(views.note_start)
    admin.router.add_get("/", views.overview, name="overview")
    nesting.nest(app, "/admin/", "admin", admin)
    if settings.development:
        templating.add_to_menu(app, "Admin", "admin:overview")
