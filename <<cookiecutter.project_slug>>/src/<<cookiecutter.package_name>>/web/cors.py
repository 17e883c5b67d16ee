"""Cross-origin requests from pages of other sites, for the routes that allow them."""

from collections.abc import Iterable
from typing import Final

import aiohttp_cors
from aiohttp import hdrs, web

from .context import HEADER, SETTINGS

CORS: Final = web.AppKey("CORS", aiohttp_cors.CorsConfig)
_RESOURCES: Final = web.AppKey("_RESOURCES", set[web.AbstractResource | None])


async def _vary(request: web.Request, response: web.StreamResponse) -> None:
    """Declare to caches that the response depends on the origin, which aiohttp-cors does not."""
    if request.match_info.route.resource in request.config_dict[_RESOURCES]:
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)


def allow(app: web.Application, route: web.AbstractRoute, expose: Iterable[str] = ()) -> None:
    """Allow pages of CORS_ORIGINS to call a route of the outermost application, without cookies.

    They may read the response headers in ``expose``, and those that are readable by default.
    """
    if CORS in app:
        options = {"allow_headers": "*", "expose_headers": (HEADER, *expose), "max_age": 600}
        app[CORS].add(route, dict.fromkeys(app[SETTINGS].cors_origins, options))
        app[_RESOURCES].add(route.resource)


def is_allowed(request: web.Request) -> bool:
    """Return True if a request comes from one of CORS_ORIGINS and its route allows it."""
    origins = request.headers.getall(hdrs.ORIGIN, ())
    return (
        request.match_info.route.resource in request.config_dict.get(_RESOURCES, ())
        and len(origins) == 1
        and origins[0] in request.config_dict[SETTINGS].cors_origins
        and hdrs.COOKIE not in request.headers
    )


def setup(app: web.Application) -> None:
    """Set up CORS; without CORS_ORIGINS, no route allows requests from other sites."""
    if app[SETTINGS].cors_origins:
        app[_RESOURCES] = set()
        app[CORS] = aiohttp_cors.CorsConfig(app)
        app.on_response_prepare.append(_vary)
