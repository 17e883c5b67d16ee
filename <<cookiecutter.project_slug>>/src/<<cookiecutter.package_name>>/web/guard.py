"""Who may pass: right hosts, requests of our own pages, clients that keep to the limits."""

import logging
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler

from ..settings import SETTINGS, Peer
from . import cors, csrf, hosts, limits
from .context import get_context
from .proxy import is_trusted, peer_address

logger = logging.getLogger(__name__)

ANY_HOST: Final = web.AppKey("ANY_HOST", set[str])
"""Paths that answer under any host name: probes address a process by whatever address it has."""


THIS_HOST: Final[tuple[Peer, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1"), "unix")


def check_peer(request: web.BaseRequest, address: str | None, allowed: Sequence[Peer]) -> None:
    """Close the connection unanswered and raise web.HTTPForbidden for a client of another host.

    For development, whose keys are known and whose tools run code; unless its network is allowed.
    """
    if not is_trusted(address, (*THIS_HOST, *allowed)):
        logger.warning("refused %s: DEV_ALLOW does not name its network", address)
        request.protocol.force_close()
        raise web.HTTPForbidden


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
    if settings.development:
        for address in {peer_address(request), context.client}:
            check_peer(request, None if address == "unix" else address, settings.dev_allow)
    if request.path not in app[ANY_HOST]:
        _check_host(request, settings.allowed_hosts)
    # Whatever the method: aiohttp does not look at it.
    websocket = request.headers.get(hdrs.UPGRADE, "").strip().lower() == "websocket"
    origins = len(request.headers.getall(hdrs.ORIGIN, ()))
    if websocket or request.method not in csrf.SAFE_METHODS or origins > 1:
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
