"""Conditional and range requests for a file of SIZE bytes, and the expected responses."""

from typing import Final, NamedTuple

SIZE: Final = 1000
OLD: Final = "Sun, 06 Nov 1994 08:49:37 GMT"
NEW: Final = "Fri, 31 Dec 2077 23:59:59 GMT"


class Case(NamedTuple):
    """A request, and the response according to RFC 9110."""

    headers: dict[str, str]
    """Headers; ``{etag}`` and ``{date}`` are replaced with the file's validators."""
    status: int
    part: slice = slice(0, SIZE)
    """The bytes that a 200 or 206 response has."""
    method: str = "GET"
    nginx: int | None = None
    """Status of nginx if it differs from the RFC, or supports more of it."""


def _range(value: str, status: int, part: slice = slice(0, SIZE), nginx: int | None = None) -> Case:
    return Case({"Range": value}, status, part, nginx=nginx)


RANGES: Final = [
    _range("bytes=0-0", 206, slice(0, 1)),
    _range("bytes=10-19", 206, slice(10, 20)),
    _range("bytes=990-", 206, slice(990, SIZE)),
    _range("bytes=0-", 206),
    _range("bytes=999-999", 206, slice(999, SIZE)),
    _range("bytes=-1", 206, slice(999, SIZE)),
    _range("bytes=-1000", 206),
    _range("bytes=-2000", 206),
    _range("bytes=500-2000", 206, slice(500, SIZE)),
    _range("bytes=500-99999999999999999999999999", 206, slice(500, SIZE), nginx=416),
    _range("BYTES=10-19", 206, slice(10, 20)),
    _range("bytes= 10 - 19 ", 206, slice(10, 20)),
    _range("bytes=0-0,", 206, slice(0, 1), nginx=416),
    # Unsatisfiable or malformed.
    _range("bytes=1000-", 416),
    _range("bytes=1000-1001", 416),
    _range("bytes=-0", 416),
    _range("bytes=20-10", 416),
    _range("bytes=" + "9" * 8000 + "-", 416),
    _range("bytes=" + "0-," * 2000 + "x", 416),
    *(
        _range(f"bytes={ranges}", 416)
        for ranges in ("x", "-", "--1", "1", "0x1-2", "1-2-3", "1-2 3", "+1-2", "1.0-2", "٣-", ",")
    ),
    # Several ranges: a single satisfiable one is sent; for more, the whole file is sent.
    _range("bytes=10-19,2000-", 206, slice(10, 20)),
    _range("bytes=2000-,-5", 206, slice(995, SIZE)),
    _range("bytes=2000-,3000-", 416),
    _range("bytes=0-0,-1", 200, nginx=206),
    _range("bytes=0-9, 20-29, 40-49", 200, nginx=206),
    _range("bytes=" + ",".join(["0-"] * 2000), 200),
    # Other units, or no unit.
    *(_range(value, 200) for value in ("lines=0-9", "bytes", "bytes:0-9", "bytes=", "=0-9", "")),
    _range("bytes =0-9", 200),
    # Ranges are for GET only.
    Case({"Range": "bytes=0-9"}, 200, method="HEAD", nginx=206),
    Case({"Range": "bytes=2000-"}, 200, method="HEAD", nginx=416),
]

_WHOLE, _PART = (200, slice(0, SIZE)), (206, slice(0, 10))
IF_RANGES: Final = [
    Case({"Range": "bytes=0-9", "If-Range": condition}, *expected)
    for condition, expected in {
        "{etag}": _PART,
        "{date}": _PART,
        '"other"': _WHOLE,
        "W/{etag}": _WHOLE,
        "{etag}, {etag}": _WHOLE,
        "*": _WHOLE,
        OLD: _WHOLE,
        NEW: _WHOLE,
        "not a date": _WHOLE,
        "Sunday, 06-Nov-94" + "9" * 30 + " 08:49:37 GMT": _WHOLE,
    }.items()
] + [
    Case({"Range": "bytes=2000-", "If-Range": '"other"'}, 200),
    Case({"Range": "bytes=2000-", "If-Range": "{etag}"}, 416),
    Case({"If-Range": '"other"'}, 200),
]

PRECONDITIONS: Final = [
    Case({"If-Match": "{etag}"}, 200),
    Case({"If-Match": '"other", {etag}'}, 200),
    Case({"If-Match": "*"}, 200),
    Case({"If-Match": '"*"'}, 412),
    Case({"If-Match": '"other"'}, 412),
    Case({"If-Match": "W/{etag}"}, 412),
    Case({"If-Match": "nonsense"}, 412),
    Case({"If-None-Match": "{etag}"}, 304),
    Case({"If-None-Match": "W/{etag}"}, 304),
    Case({"If-None-Match": '"other",{etag}'}, 304),
    Case({"If-None-Match": "*"}, 304),
    Case({"If-None-Match": '"*"'}, 200),
    Case({"If-None-Match": '"other"'}, 200),
    Case({"If-None-Match": "nonsense"}, 200),
    Case({"If-None-Match": "{etag}"}, 304, method="HEAD"),
    Case({"If-Unmodified-Since": "{date}"}, 200),
    Case({"If-Unmodified-Since": NEW}, 200),
    Case({"If-Unmodified-Since": OLD}, 412),
    Case({"If-Unmodified-Since": "not a date"}, 200, nginx=412),
    Case({"If-Modified-Since": "{date}"}, 304),
    Case({"If-Modified-Since": NEW}, 304, nginx=200),
    Case({"If-Modified-Since": OLD}, 200),
    Case({"If-Modified-Since": "not a date"}, 200),
    # Dates in the three formats of section 5.6.7, always in GMT.
    *(
        Case({"If-Unmodified-Since": date}, 412)
        for date in ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994")
    ),
    *(
        Case({"If-Unmodified-Since": f"Sun, 06 Nov 1994 08:49:37{zone}"}, 200, nginx=412)
        for zone in (" +0000", " -0000", " +1400", " UTC", " EST", " GMT+1", "", " gmt")
    ),
    *(
        Case({"If-Unmodified-Since": f"{date} GMT"}, 200, nginx=412)
        for date in (
            *("06 Nov 1994 08:49:37", "Sun, 6 Nov 1994 08:49:37", "Sun, 06 Nov 94 08:49:37"),
            *("Sun, 31 Feb 1994 08:49:37", "Sun, 06 Nov 1994 25:49:37", "Sun, 06 Nov 1994 08:49"),
        )
    ),
    # Precedence (section 13.2.2): a date is ignored if there is an entity tag.
    Case({"If-Match": "{etag}", "If-Unmodified-Since": OLD}, 200, nginx=412),
    Case({"If-Match": '"other"', "If-None-Match": "{etag}"}, 412),
    Case({"If-Match": "{etag}", "If-None-Match": "{etag}"}, 304),
    Case({"If-None-Match": '"other"', "If-Modified-Since": "{date}"}, 200),
    Case({"If-None-Match": "{etag}", "If-Modified-Since": OLD}, 304, nginx=200),
    Case({"If-None-Match": "{etag}", "Range": "bytes=0-9"}, 304),
    Case({"If-Match": '"other"', "Range": "bytes=0-9"}, 412),
    Case({"If-Match": "{etag}", "Range": "bytes=0-9"}, *_PART),
    Case({"If-Unmodified-Since": OLD, "Range": "bytes=2000-"}, 412),
    Case({"If-None-Match": '"other"', "Range": "bytes=0-9", "If-Range": '"old"'}, 200),
]
CASES: Final = RANGES + IF_RANGES + PRECONDITIONS
