"""Named nested applications, so that every page can link to every route: ``admin:overview``."""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from yarl import URL

NAMESPACE: Final = web.AppKey("NAMESPACE", str)
"""The name of a nested application."""
NESTED: Final = web.AppKey("NESTED", dict[str, web.Application])
"""The applications nested directly in this one, by name."""

OFFERS: Final = web.AppKey("OFFERS", dict[str, list[Callable[[web.Application], None]]])
"""Setup functions for the applications that will be nested directly in this one, by name."""


def offer(app: web.Application, name: str, setup: Callable[[web.Application], None]) -> None:
    """Register ``setup`` to be called with the nested application ``name``, if it is ever nested.

    This lets a feature extend another one without importing it. Raises ValueError if the
    application is already nested.
    """
    if name in app.get(NESTED, {}):
        raise ValueError(f"the application named {name!r} is complete already")
    app.setdefault(OFFERS, {}).setdefault(name, []).append(setup)


def nest(app: web.Application, prefix: str, name: str, nested: web.Application) -> None:
    """Mount a nested application below ``prefix`` (such as ``/admin/``).

    It must be complete, except for the functions that were registered with ``offer``; they run now.
    Raises ValueError if the name is taken.
    """
    siblings = app.setdefault(NESTED, {})
    if name in siblings:
        raise ValueError(f"an application named {name!r} is nested here already")
    nested[NAMESPACE] = name
    siblings[name] = nested
    for setup in app.get(OFFERS, {}).get(name, ()):
        setup(nested)

    async def add_slash(request: web.Request) -> web.Response:
        raise web.HTTPPermanentRedirect(f"{request.path}/")

    app.router.add_get(prefix.rstrip("/"), add_slash)
    app.add_subapp(prefix, nested)


def url_for(app: web.Application, name: str, /, **parts: str) -> URL:
    """Return the path of a route by its name, relative to ``app``: ``index``, ``admin:overview``.

    Raises KeyError if the application or the route does not exist, or a part is missing.
    """
    *namespaces, route = name.split(":")
    for namespace in namespaces:
        app = app[NESTED][namespace]
    return app.router[route].url_for(**parts)


def route_name(match_info: web.UrlMappingMatchInfo) -> str | None:
    """Return the name of the matched route, as ``url_for`` accepts it; None if nothing matched."""
    route = match_info.route
    if route.resource is None:
        return None
    name = route.name or route.resource.canonical
    for app in match_info.apps[:0:-1]:
        name = f"{app.get(NAMESPACE, '?')}:{name}"  # "?": mounted without nest()
    return name
