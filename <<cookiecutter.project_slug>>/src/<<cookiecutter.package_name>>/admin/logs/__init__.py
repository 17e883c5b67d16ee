"""Logs: the live log of all workers at /admin/logs/, and the switch of the log level."""

from aiohttp import web

from ...settings import Settings
from ...web import nesting, templating
from ...web.background import every, supervise
from . import feed, level, views


def setup(app: web.Application, admin: web.Application, settings: Settings) -> None:
    """Add the logs to the admin. Call it before the admin is nested in ``app``."""
    app[feed.FEED] = feed.Feed()
    supervise(app, feed.follow)
    supervise(app, every(feed.INTERVAL, feed.publish))
    app[level.SWITCH] = level.Switch(settings.log_level)
    supervise(app, level.follow)

    logs = web.Application()
    templating.extend(logs, __package__, admin)
    templating.add_to_menu(admin, "Logs", "admin:logs:page")
    logs.router.add_get("/", views.page, name="page")
    logs.router.add_get("/tail", views.tail, name="tail", allow_head=False)
    logs.router.add_post("/level", views.switch, name="switch")
    nesting.nest(admin, "/logs/", "logs", logs)
