"""Detection of cross-site requests, from the headers in which browsers state the origin.

The order of the checks follows Filippo Valsorda's research for Go's http.CrossOriginProtection.
"""

from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from .hosts import origin

SAFE_METHODS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
"""Methods that do not change anything (RFC 9110, section 9.2.1); all others are checked."""

SEC_FETCH_SITE: Final = "Sec-Fetch-Site"


def is_own(headers: CIMultiDictProxy[str], site: str) -> bool:
    """Return True if a request comes from a page of ``site``, from its user, or from no browser.

    Pages cannot set Sec-Fetch-Site, so it takes precedence (W3C Fetch Metadata). Older browsers,
    and all browsers on plain HTTP, send Origin or at least Referer. A request with a cookie but
    none of these headers may come from a browser that hides its origin, so it is refused. No
    browser sends one of these headers twice.
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
