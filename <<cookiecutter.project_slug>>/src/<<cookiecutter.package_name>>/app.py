"""The composition root: the parts of the application, in the order in which they see a request."""

from pathlib import Path

import aiojobs.aiohttp
from aiohttp import web

from . import (
    admin,
    # % if cookiecutter.database != "none"
    database,
    # % endif
    live,
    # % if cookiecutter.database != "none"
    news,
    # % endif
    site,
)
from .settings import Settings, load_settings
from .web import (
    connection,
    context,
    cors,
    errors,
    executor,
    guard,
    head,
    headers,
    lag,
    shutdown,
    static,
    templating,
)
from .web.context import SETTINGS


def create_app(settings: Settings | None = None) -> web.Application:
    """Return a new application, which opens nothing and shares nothing with other applications.

    Raises SystemExit if no settings are given and those of the environment are wrong.
    """
    settings = settings or load_settings()
    app = web.Application(
        middlewares=[
            errors.errors_middleware,
            context.context_middleware,
            head.head_middleware,
        ],
        client_max_size=settings.max_body_size,
        handler_args=connection.handler_args(settings),
    )
    app[SETTINGS] = settings
    guard.setup(app)
    headers.setup(app)
    cors.setup(app)
    shutdown.setup(app)
    executor.setup(app)
    lag.setup(app)
    templating.setup(app, __package__, development=settings.development)
    static.setup(app, Path(__file__).parent / "static")
    # % if cookiecutter.database != "none"
    database.setup(app)
    # % endif
    live.setup(app)
    site.setup(app)
    # % if cookiecutter.database != "none"
    news.setup(app)
    # % endif
    admin.setup(app)
    # shield() and spawn(); last, so that their work ends before the resources it uses are closed.
    aiojobs.aiohttp.setup(app, wait_timeout=settings.graceful_timeout)
    return app
