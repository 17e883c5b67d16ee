"""Middleware that refuses unknown hosts, cross-site requests and clients over their limits."""

import logging
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler

from ..settings import Peer
from . import cors, csrf, hosts, limits
from .context import SETTINGS, get_context
from .proxy import is_trusted, peer_address

logger = logging.getLogger(__name__)

ANY_HOST: Final = web.AppKey("ANY_HOST", set[str])
"""Paths that accept any host name, because probes may use any address of a process."""


THIS_HOST: Final[tuple[Peer, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1"), "unix")


def check_peer(request: web.BaseRequest, address: str | None, allowed: Sequence[Peer]) -> None:
    """Close the connection and raise web.HTTPForbidden if the client is on another host.

    The client gets no response. Clients in the ``allowed`` networks may connect. This is for
    development, where keys are public and tools run code.
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
    """Return the handler with a timeout for a request body that has not arrived yet."""

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
    """Pass a request to the handlers, or respond with 400, 403, 408, 421 or 429."""
    context = get_context(request)
    app = context.app
    settings = app[SETTINGS]
    if settings.development:
        for address in {peer_address(request), context.client}:
            check_peer(request, None if address == "unix" else address, settings.dev_allow)
    if request.path not in app[ANY_HOST]:
        _check_host(request, settings.allowed_hosts)
    # With any method: aiohttp does not check it.
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
    """Add the checks to an application and its nested applications."""
    app[ANY_HOST] = set()
    app[limits.WEBSOCKETS] = Counter()
    app.middlewares.append(guard_middleware)
