"""The overview: what runs here, and how it is set up."""

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
from ..settings import SETTINGS, Settings
from ..web.nesting import NAMESPACE, NESTED
from ..web.templating import render
from . import announce

PACKAGES = (about.DISTRIBUTION, "aiohttp", "aiohttp-jinja2", "jinja2", "gunicorn", "uvloop")
"""Distributions whose versions the overview shows."""


def _loaded(name: str) -> str:
    """Return the version of a distribution that this process uses, while it imports the project.

    Later on, the disk may have another one.
    """
    module = sys.modules.get(name.replace("-", "_"))
    return (module and vars(module).get("__version__")) or version(name)


VERSIONS = {"Python": platform.python_version()} | {name: _loaded(name) for name in PACKAGES}

STARTED: Final = web.AppKey("STARTED", float)
"""When this worker started, in seconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the route table."""

    name: str
    methods: str
    path: str
    url: str | None
    """The address, for routes that GET reaches and that need no parts; found by URL reversing."""


def routes(app: web.Application) -> Iterator[Route]:
    """Yield the named routes of an application and, depth first, of those nested in it.

    Names are counted from ``app``, as url() takes them.
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
    """Return the settings by their names, as text, secrets as asterisks."""
    return {
        name.upper(): ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in settings
    }


async def note_start(app: web.Application) -> None:
    """Remember when this worker started (a signal handler for on_startup)."""
    app[STARTED] = time.monotonic()


async def overview(request: web.Request) -> web.Response:
    """Answer what runs here: versions, this worker, the settings, all routes."""
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
