"""Requests that another site made the browser send, told by what browsers say of their origin.

The order of the questions is that of Filippo Valsorda's study for Go's http.CrossOriginProtection.
"""

from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from .hosts import origin

SAFE_METHODS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
"""Methods that change nothing (RFC 9110, section 9.2.1); everything else is checked."""

SEC_FETCH_SITE: Final = "Sec-Fetch-Site"


def is_own(headers: CIMultiDictProxy[str], site: str) -> bool:
    """Tell whether a request was sent by a page of ``site``, by its user, or by no browser at all.

    Sec-Fetch-Site cannot be set by pages, and decides where it is sent (W3C Fetch Metadata). Older
    browsers, and all on plain HTTP, send Origin or at least Referer. A request with none of these
    but a cookie may come from a browser that hides where it came from. No browser sends one twice.
    """
    for name in (SEC_FETCH_SITE, hdrs.ORIGIN, hdrs.REFERER):
        if len(headers.getall(name, ())) > 1:
            return False
    if (sent := headers.get(SEC_FETCH_SITE)) is not None:
        return sent in {"same-origin", "none"}
    sent = headers.get(hdrs.ORIGIN, headers.get(hdrs.REFERER))
    if sent is None:
        return hdrs.COOKIE not in headers
    try:
        return origin(sent) == origin(site)
    except ValueError:
        return False
