"""Conditional requests (RFC 9110, section 13): an unchanged representation is not sent again."""

from hashlib import blake2b

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from .context import get_context
from .headers import REVALIDATE
from .preconditions import is_current


def entity_tag(body: bytes) -> str:
    """Return the strong entity tag of a representation."""
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'


def require_version(request: web.BaseRequest, etag: str) -> None:
    """Raise web.HTTPPreconditionFailed if the client's change is based on another version."""
    if is_current(request, etag):
        raise web.HTTPPreconditionFailed


def conditional(handler: Handler) -> Handler:
    """Return a handler that adds an ETag, and responds with 304 if the client already has it.

    The tag is weak, unless the handler sets one: it is computed from the body without the nonce,
    which differs on every page.
    """

    async def respond(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return response
        nonce = get_context(request).nonce or ""
        weak = f"W/{entity_tag(response.body.replace(nonce.encode(), b''))}"
        etag = response.headers.setdefault(hdrs.ETAG, weak)
        for_all = hdrs.AUTHORIZATION not in request.headers
        response.headers.setdefault(hdrs.CACHE_CONTROL, REVALIDATE if for_all else "no-store")
        if is_current(request, etag):
            response.set_status(304)
            response.body = None
        return response

    return respond
