"""Bodies of JSON requests: objects with a few fields, whose values may be long texts."""

import re
from typing import Final

from aiohttp import web

MAX_STRUCTURE: Final = 16 * 1024
"""Maximum number of bytes outside of strings, because 100,000 fields or lists take far longer to
parse than a long text."""

# An unterminated string extends to the end of the body, so that it is scanned only once.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


async def read_json(request: web.Request) -> bytes:
    """Return the body of a request, which is not parsed yet.

    Raises web.HTTPUnsupportedMediaType if it is not JSON, web.HTTPBadRequest if it has too many
    fields, web.HTTPRequestEntityTooLarge if it is larger than MAX_BODY_SIZE.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send application/json.")
    body = await request.read()
    if len(_STRING.sub(b"", body, MAX_STRUCTURE)) > MAX_STRUCTURE:
        detail = f"Invalid JSON: it has more than {MAX_STRUCTURE} bytes outside of its strings."
        raise web.HTTPBadRequest(text=detail)
    return body
