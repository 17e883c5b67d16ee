"""Nested applications under a name, so that every page can name every route: ``admin:overview``."""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from yarl import URL

NAMESPACE: Final = web.AppKey("NAMESPACE", str)
"""A nested application's own name."""
NESTED: Final = web.AppKey("NESTED", dict[str, web.Application])
"""The applications nested directly in this one, by their names."""

OFFERS: Final = web.AppKey("OFFERS", dict[str, list[Callable[[web.Application], None]]])
"""What is set up in the applications that will be nested directly in this one, by their names."""


def offer(app: web.Application, name: str, setup: Callable[[web.Application], None]) -> None:
    """Have ``setup(nested)`` called for the application that is nested as ``name``, if one will be.

    So a feature brings a part of another one, and knows nothing of it. Raises ValueError when it
    comes too late.
    """
    if name in app.get(NESTED, {}):
        raise ValueError(f"the application named {name!r} is complete already")
    app.setdefault(OFFERS, {}).setdefault(name, []).append(setup)


def nest(app: web.Application, prefix: str, name: str, nested: web.Application) -> None:
    """Mount a nested application, complete but for offers, below ``prefix`` (such as ``/admin/``).

    Raises ValueError when the name is taken.
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
    """Return the path of a route by its name, counted from ``app``: ``index``, ``admin:overview``.

    Raises KeyError when there is no such application or route, or a part is missing.
    """
    *namespaces, route = name.split(":")
    for namespace in namespaces:
        app = app[NESTED][namespace]
    return app.router[route].url_for(**parts)


def route_name(match_info: web.UrlMappingMatchInfo) -> str | None:
    """Return the name of the matched route as ``url_for`` takes it; None when nothing matched."""
    route = match_info.route
    if route.resource is None:
        return None
    name = route.name or route.resource.canonical
    for app in match_info.apps[:0:-1]:
        name = f"{app.get(NAMESPACE, '?')}:{name}"  # "?" was mounted without nest()
    return name
