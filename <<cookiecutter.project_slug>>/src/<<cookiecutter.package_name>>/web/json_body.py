"""JSON that programs send: objects of a few fields, whose values may be long texts."""

import re
from typing import Final

from aiohttp import web

MAX_STRUCTURE: Final = 16 * 1024
"""Bytes outside of strings: 100,000 fields or lists take a parser far longer than a long text."""

# One that does not end goes to the end, so that it is read once.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


async def read_json(request: web.Request) -> bytes:
    """Return the body of a request, to be parsed.

    Raises web.HTTPUnsupportedMediaType when it is not JSON, web.HTTPBadRequest when it has too many
    fields, web.HTTPRequestEntityTooLarge beyond MAX_BODY_SIZE.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send application/json.")
    body = await request.read()
    if len(_STRING.sub(b"", body, MAX_STRUCTURE)) > MAX_STRUCTURE:
        detail = f"Invalid JSON: it has more than {MAX_STRUCTURE} bytes outside of its strings."
        raise web.HTTPBadRequest(text=detail)
    return body
