"""Who may pass: right hosts, requests of our own pages, clients that keep to the limits."""

from collections import Counter
from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler

from ..settings import SETTINGS
from . import cors, csrf, hosts, limits
from .context import get_context

ANY_HOST: Final = web.AppKey("ANY_HOST", set[str])
"""Paths that answer under any host name: probes address a process by whatever address it has."""


def _check_host(request: web.Request, allowed: tuple[str, ...]) -> None:
    given = len(request.headers.getall(hdrs.HOST, ()))
    try:
        if given > 1 or (given == 0 and request.version >= HttpVersion11):
            raise ValueError
        name = hosts.host_name(request.host)
    except ValueError:
        raise web.HTTPBadRequest(text="The request has to name one host.") from None
    if not hosts.is_allowed(name, allowed):
        raise web.HTTPMisdirectedRequest(text=f"This site does not answer for {name}.")


def _reading_in_time(handler: Handler, seconds: float) -> Handler:
    """Return the handler of a request whose body has yet to come."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            async with limits.read_timeout(request, seconds):
                return await handler(request)
        except limits.SlowBodyError:
            raise web.HTTPRequestTimeout from None
        except web.RequestPayloadError:
            raise web.HTTPBadRequest(text="The body is malformed.") from None

    return handle


@web.middleware
async def guard_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through to the handlers, or answer 400, 403, 408, 421 or 429."""
    context = get_context(request)
    app = context.app
    settings = app[SETTINGS]
    if request.path not in app[ANY_HOST]:
        _check_host(request, settings.allowed_hosts)
    # Whatever the method: aiohttp does not look at it.
    websocket = request.headers.get(hdrs.UPGRADE, "").strip().lower() == "websocket"
    if websocket or request.method not in csrf.SAFE_METHODS:
        site = f"{request.scheme}://{request.host}"
        if not csrf.is_own(request.headers, site) and not cors.is_allowed(request):
            raise web.HTTPForbidden(text="Another site sent this, or Origin is missing.")
    if not request.content.is_eof():
        handler = _reading_in_time(handler, settings.read_timeout)
    if websocket:
        with limits.one_websocket(app, context.client, settings.max_websockets):
            return await handler(request)
    return await handler(request)


def setup(app: web.Application) -> None:
    """Guard an application and those nested in it."""
    app[ANY_HOST] = set()
    app[limits.WEBSOCKETS] = Counter()
    app.middlewares.append(guard_middleware)
