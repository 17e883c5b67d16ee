"""Nested applications under a name, so that every page can name every route: ``admin:overview``."""

from typing import Final

from aiohttp import web
from yarl import URL

NAMESPACE: Final = web.AppKey("NAMESPACE", str)
"""A nested application's own name."""
NESTED: Final = web.AppKey("NESTED", dict[str, web.Application])
"""The applications nested directly in this one, by their names."""


def nest(app: web.Application, prefix: str, name: str, nested: web.Application) -> None:
    """Mount a nested application, itself complete, below ``prefix`` (such as ``/admin/``).

    Raises ValueError when the name is taken.
    """
    siblings = app.setdefault(NESTED, {})
    if name in siblings:
        raise ValueError(f"an application named {name!r} is nested here already")
    nested[NAMESPACE] = name
    siblings[name] = nested

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
