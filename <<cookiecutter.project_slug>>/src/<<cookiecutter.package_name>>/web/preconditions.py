"""Conditional requests and range requests (RFC 9110, sections 13 and 14)."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate
from typing import Final

from aiohttp import hdrs, web

_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME: Final = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
# Section 5.6.7: the preferred format, the format of RFC 850, and the format of asctime().
_HTTP_DATE: Final = re.compile(
    f"{_DAY}, [0-9]{{2}} {_MONTH} [0-9]{{4}} {_TIME} GMT"
    f"|{_DAY}[a-z]{{3,6}}, [0-9]{{2}}-{_MONTH}-[0-9]{{2}} {_TIME} GMT"
    f"|{_DAY} {_MONTH} [ 0-9][0-9] {_TIME} [0-9]{{4}}"
)


def _lists(etag: str, header: str, *, weak: bool) -> bool:
    """Return True if a list of entity tags contains this one; strong comparison unless ``weak``.

    The list may be long, so it is searched as text: our tags contain no commas or inner quotes.
    """
    if header.strip() == "*":
        return True
    if weak:
        return etag.removeprefix("W/") in header
    return etag.startswith('"') and etag in header.replace(f"W/{etag}", "")


def _date(request: web.BaseRequest, name: str) -> int | None:
    """Return the date in a header, in seconds since 1970, or None unless there is exactly one."""
    values = request.headers.getall(name, ())
    if len(values) != 1 or not _HTTP_DATE.fullmatch(values[0]):
        return None
    parsed = parsedate(values[0])
    try:
        return int(datetime(*parsed[:6], tzinfo=UTC).timestamp()) if parsed else None
    except ValueError:  # such as 31 February
        return None


def is_current(request: web.BaseRequest, etag: str, modified: int | None = None) -> bool:
    """Return True if the client already has this version (respond with 304).

    ``etag`` has the format of the ETag header; ``modified`` is in seconds since 1970. Raises
    web.HTTPPreconditionFailed. The order of the checks follows RFC 9110, section 13.2.2.
    """
    matches = request.headers.getall(hdrs.IF_MATCH, ())
    unmodified_since = _date(request, hdrs.IF_UNMODIFIED_SINCE)
    if matches:
        if not _lists(etag, ",".join(matches), weak=False):
            raise web.HTTPPreconditionFailed
    elif modified is not None and unmodified_since is not None and modified > unmodified_since:
        raise web.HTTPPreconditionFailed
    known = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    if known:
        return _lists(etag, ",".join(known), weak=True)
    modified_since = _date(request, hdrs.IF_MODIFIED_SINCE)
    return modified is not None and modified_since is not None and modified <= modified_since


def _satisfiable(ranges: str, size: int) -> Iterator[range]:
    """Yield the ranges that overlap the representation. Raises ValueError if one is malformed."""
    for spec in ranges.split(","):
        first, dash, last = (part.strip(" \t") for part in spec.partition("-"))
        if not (first or dash):  # an empty element of the list
            continue
        if not dash or not (first or last) or not re.fullmatch("[0-9]*", first + last):
            raise ValueError(spec)
        if first:
            start, stop = int(first), min(int(last) + 1, size) if last else size
        else:
            start, stop = max(size - int(last), 0), size
        if start < stop or start == size == 0:
            yield range(start, stop)


def requested_range(request: web.BaseRequest, size: int, etag: str, modified: int) -> range | None:
    """Return the range of bytes that the client requests; None to respond with all of them.

    ``etag`` is strong; both validators and ``size`` belong to the same representation. A request
    for several ranges gets all bytes, as section 14.2 allows. Raises
    web.HTTPRequestRangeNotSatisfiable.
    """
    given = request.headers.getall(hdrs.RANGE, ())
    if request.method != hdrs.METH_GET or len(given) != 1:
        return None
    unit, _, ranges = given[0].partition("=")
    if unit.lower() != "bytes" or not ranges:
        return None
    conditions = request.headers.getall(hdrs.IF_RANGE, ())
    # A file may change again within the second of its date (section 8.8.2.2).
    dated = _date(request, hdrs.IF_RANGE) == modified < time.time() - 2
    if conditions and conditions != [etag] and not dated:
        return None
    try:
        found = list(_satisfiable(ranges, size))
    except ValueError:
        found = []
    if not found:
        raise web.HTTPRequestRangeNotSatisfiable(headers={hdrs.CONTENT_RANGE: f"bytes */{size}"})
    return found[0] if len(found) == 1 and size else None
