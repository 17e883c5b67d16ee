"""Context of a request: its id, and values for the log, the headers and the pages."""

import base64
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from random import getrandbits
from time import perf_counter
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from ..logs import REQUEST_ID
from ..settings import Settings
from .proxy import forwarded, is_trusted, peer_address

SETTINGS: Final = web.AppKey("SETTINGS", Settings)

HEADER: Final = "X-Request-ID"
_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9._:=+/-]{1,128}")


@dataclass(slots=True)
class RequestContext:
    """State of a request, which the request and all its clones share."""

    app: web.Application
    """The outermost application."""
    request_id: str
    client: str
    """The client's address, or ``unix`` for a Unix socket when no proxy named the client."""
    secure: bool
    """True if the client's own connection uses TLS."""
    trusted: bool
    """True if the peer is one of TRUSTED_PROXIES."""
    started: float
    """Time at which the request arrived, in seconds of ``time.perf_counter``."""
    user: str = ""
    """The name of the signed-in account; empty outside the admin."""
    nonce: str | None = None
    """The nonce in the response's Content-Security-Policy, if a page requested one."""

    def script_nonce(self) -> str:
        """Return the nonce for this response's scripts: 128 random bits, as in CSP Level 3."""
        if self.nonce is None:
            self.nonce = base64.b64encode(secrets.token_bytes(16)).decode()
        return self.nonce


CONTEXT: Final = web.RequestKey("CONTEXT", RequestContext)
CURRENT: Final[ContextVar[RequestContext]] = ContextVar("CURRENT")


def get_context(request: web.Request) -> RequestContext:
    """Return the request's context. Create it if the request failed before the middlewares ran."""
    context = request.get(CONTEXT)
    if context is None:
        app = request.match_info.apps[0]
        proxies = app[SETTINGS].trusted_proxies
        peer = peer_address(request)
        trusted = bool(proxies) and is_trusted(peer, proxies)
        sent = request.headers.get(HEADER, "") if trusted else ""
        if not _WELL_FORMED.fullmatch(sent):
            sent = f"{getrandbits(128):032x}"  # not a secret; reseeded after a fork
        context = RequestContext(app, sent, peer or "unix", request.secure, trusted, perf_counter())
        request[CONTEXT] = context
    return context


@web.middleware
async def context_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set up the context, and replace the proxy's values in the request with those of the client.

    Variables are not reset: aiohttp runs each request in its own task, which has its own context.
    """
    context = get_context(request)
    CURRENT.set(context)
    REQUEST_ID.set(context.request_id)
    if context.trusted:
        try:
            facts = forwarded(request, context.app[SETTINGS].trusted_proxies)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        # rel_url has no host; adev's server leaves a host in the target.
        request = request.clone(rel_url=request.rel_url, **facts)
        context.client = facts.get("remote", context.client)
        context.secure = request.secure
    return await handler(request)
