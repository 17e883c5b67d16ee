"""The overview page: versions, this worker, the settings and the routes."""

import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.metadata import version
from typing import Final

from aiohttp import web

from .. import about
from ..settings import Settings
from ..web.context import SETTINGS
from ..web.nesting import NAMESPACE, NESTED
from ..web.templating import render
from . import announce

PACKAGES = (about.DISTRIBUTION, "aiohttp", "aiohttp-jinja2", "jinja2", "gunicorn", "uvloop")
"""Distributions whose versions are shown in the overview."""


def _loaded(name: str) -> str:
    """Return the version of a distribution that this process uses.

    Call it while the project is imported: later, another version may be installed on disk.
    """
    module = sys.modules.get(name.replace("-", "_"))
    return (module and vars(module).get("__version__")) or version(name)


VERSIONS = {"Python": platform.python_version()} | {name: _loaded(name) for name in PACKAGES}

STARTED: Final = web.AppKey("STARTED", float)
"""Start time of this worker, in seconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the route table."""

    name: str
    methods: str
    path: str
    url: str | None
    """URL of a route that supports GET and has no parameters, else None; from URL reversing."""


def routes(app: web.Application) -> Iterator[Route]:
    """Yield the named routes of an application and, depth first, of its sub-applications.

    The names are relative to ``app``, as url() expects them.
    """
    for name, resource in app.router.named_resources().items():
        methods = sorted({route.method for route in resource} - {"HEAD"})
        reversible = isinstance(resource, web.PlainResource) and "GET" in methods
        yield Route(
            name,
            ", ".join(methods),
            resource.canonical,
            str(resource.url_for()) if reversible else None,
        )
    for nested in app.get(NESTED, {}).values():
        for route in routes(nested):
            yield replace(route, name=f"{nested[NAMESPACE]}:{route.name}")


def shown(settings: Settings) -> dict[str, str]:
    """Return the settings as text, by name, with secrets as asterisks."""
    return {
        name.upper(): ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in settings
    }


async def note_start(app: web.Application) -> None:
    """Store the start time of this worker (a signal handler for on_startup)."""
    app[STARTED] = time.monotonic()


async def overview(request: web.Request) -> web.Response:
    """Render the versions, this worker, the settings and all routes."""
    return render(
        request,
        "overview.html",
        versions=VERSIONS,
        pid=os.getpid(),
        longest=announce.LONGEST,
        uptime=timedelta(seconds=int(time.monotonic() - request.app[STARTED])),
        settings=shown(request.config_dict[SETTINGS]),
        routes=list(routes(request.match_info.apps[0])),
    )
