"""Requests that another site made the browser send, told by what browsers say of their origin.

The order of the questions is that of Filippo Valsorda's study for Go's http.CrossOriginProtection.
"""

from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy
from yarl import URL

SAFE_METHODS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
"""Methods that change nothing (RFC 9110, section 9.2.1); everything else is checked."""

SEC_FETCH_SITE: Final = "Sec-Fetch-Site"


def _origin(text: str) -> tuple[str, str | None, int | None] | None:
    try:
        url = URL(text).origin()
    except ValueError:  # "null" among others
        return None
    return url.scheme, url.host, url.port


def is_own(headers: CIMultiDictProxy[str], site: str) -> bool:
    """Tell whether a request was sent by a page of ``site``, by its user, or by no browser at all.

    Sec-Fetch-Site cannot be set by pages, and decides where it is sent (W3C Fetch Metadata). Older
    browsers, and all on plain HTTP, send Origin or at least Referer. Who sends none of these but a
    cookie may be a browser that hides where the request came from.
    """
    if sites := headers.getall(SEC_FETCH_SITE, []):
        return set(sites) <= {"same-origin", "none"}
    for name in (hdrs.ORIGIN, hdrs.REFERER):
        if values := headers.getall(name, []):
            return {_origin(value) for value in values} == {_origin(site)}
    return hdrs.COOKIE not in headers
