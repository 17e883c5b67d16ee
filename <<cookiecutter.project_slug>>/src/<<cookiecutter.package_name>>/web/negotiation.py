"""Content negotiation: the Accept header selects one of several representations of a URL.

Source: RFC 9110, section 12.5.1.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

MAX_LENGTH: Final = 4096
"""Maximum length of a header that is parsed, in characters; browsers send 150."""

_QUALITY: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def parse_accept(header: str) -> dict[str, float]:
    """Return the quality (0 to 1) of every range in an Accept or Accept-Encoding header.

    A range with a malformed weight is left out. Other parameters are ignored, and so is a header
    that is too long.
    """
    ranges: dict[str, float] = {}
    if len(header) > MAX_LENGTH:
        return ranges
    for element in header.split(","):
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        weight = next((p[2:].strip() for p in parameters if p.startswith("q=")), "1")
        if name and _QUALITY.fullmatch(weight):
            ranges[name] = float(weight)
    return ranges


def best_match(accept: str, offered: Sequence[str]) -> str | None:
    """Return the offered media type with the highest quality (the first on a tie), or None.

    The most specific range that matches a type counts. An empty header accepts everything.
    """
    ranges = parse_accept(accept) or {"*/*": 1.0}

    def quality(media_type: str) -> float:
        for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
            if name in ranges:
                return ranges[name]
        return 0.0

    best = max(offered, key=quality)
    return best if quality(best) > 0 else None


def accepted(request: web.BaseRequest, offered: Sequence[str]) -> str | None:
    """Return the best match for a request, whose Accept header may span several lines."""
    return best_match(",".join(request.headers.getall(hdrs.ACCEPT, [])), offered)


def negotiated(handlers: Mapping[str, Handler]) -> Handler:
    """Return a handler that calls the handler of the best media type, or responds with 406.

    ``web.get("/", negotiated({"text/html": page, "application/json": data}))``
    """
    offered = tuple(handlers)

    async def negotiate(request: web.Request) -> web.StreamResponse:
        media_type = accepted(request, offered)
        if media_type is None:
            raise web.HTTPNotAcceptable(text=f"Available as {' and '.join(offered)}.")
        response = await handlers[media_type](request)
        response.headers.add(hdrs.VARY, hdrs.ACCEPT)
        return response

    return negotiate
