"""The composition root: what the application is made of, in the order in which a request meets it."""

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
from .settings import SETTINGS, Settings, load_settings
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


def create_app(settings: Settings | None = None) -> web.Application:
    """Return a new application; it opens nothing and shares nothing with another.

    Raises SystemExit when no settings are given and those of the environment are wrong.
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
    # shield() and spawn(); last, to be waited for before what such work needs is closed.
    aiojobs.aiohttp.setup(app, wait_timeout=settings.graceful_timeout)
    return app
