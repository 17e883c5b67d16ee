"""Checks of the head of a request, which run before everything else reads it."""

import re
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

MAX_SIZE: Final = 32 * 1024
"""Maximum size of all headers together, in bytes: that of nginx (large_client_header_buffers)."""
MAX_MEDIA_TYPE: Final = 256
"""Maximum length of a Content-Type. aiohttp parses it with email.parser, in quadratic time."""

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# Some programs do not quote a boundary that is not a token.
_VALUE: Final = r"(?:[!#-'*+\--:=?-\[\]-~]++|\"[\t !#-\[\]-~]*+\")"
_MEDIA_TYPE: Final = re.compile(rf"{_WORD}/{_WORD}(?:[\t ]*+;[\t ]*+(?:{_WORD}={_VALUE})?+)*+")


def _check(request: web.Request) -> None:
    headers = request.headers
    if sum(len(name) + len(value) for name, value in request.raw_headers) > MAX_SIZE:
        raise web.HTTPRequestHeaderFieldsTooLarge(
            text=f"All headers together have at most {MAX_SIZE} bytes."
        )
    if headers.get(hdrs.TRANSFER_ENCODING, "chunked").lower() != "chunked":
        raise web.HTTPNotImplemented(text="Of transfer codings, the server takes chunked alone.")
    codings = ",".join(headers.getall(hdrs.CONTENT_ENCODING, ())).lower().split(",")
    if not {coding.strip(" \t") for coding in codings} <= {"", "identity"}:
        raise web.HTTPUnsupportedMediaType(
            text="Send the body without a content coding.",
            headers={hdrs.ACCEPT_ENCODING: "identity"},  # RFC 9110, section 15.5.16
        )
    for media_type in headers.getall(hdrs.CONTENT_TYPE, ()):
        if len(media_type) > MAX_MEDIA_TYPE or not _MEDIA_TYPE.fullmatch(media_type):
            raise web.HTTPUnsupportedMediaType(text="Content-Type is not a media type.")


@web.middleware
async def head_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pass a request to the handlers, or respond with 415, 431 or 501."""
    _check(request)
    return await handler(request)
