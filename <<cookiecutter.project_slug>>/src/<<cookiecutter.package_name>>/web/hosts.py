"""Hosts and origins: those in requests, and the hosts of this site (ALLOWED_HOSTS)."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_HOST: Final = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?")
_ORIGIN: Final = re.compile(rf"(https?)://{_HOST.pattern}(?=[/?#]|\Z)", re.ASCII | re.IGNORECASE)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@lru_cache(maxsize=256)
def host_name(host: str) -> str:
    """Return the name or address in a Host header, in lower case and without the port.

    Raises ValueError if it is not a host (RFC 9110, section 7.2).
    """
    match = _HOST.fullmatch(host)
    if match is None or int(match[2] or 0) > 65535:
        raise ValueError("not a host")
    return match[1].lower().removesuffix(".")


def origin(url: str) -> tuple[str, str, int]:
    """Return the scheme, host and port of a URL, for comparison.

    Hosts are ASCII, as browsers send them (RFC 6454, section 6.2). Raises ValueError if the URL has
    no HTTP origin (``null``), or contains a user.
    """
    match = _ORIGIN.match(url)
    if match is None:
        raise ValueError("not an origin")
    scheme = match[1].lower()
    return scheme, match[2].lower(), int(match[3] or _DEFAULT_PORTS[scheme])


def is_allowed(name: str, allowed: Sequence[str]) -> bool:
    """Return True if a host is allowed; ``*.example.com`` matches all of its subdomains."""
    return name in allowed or any(
        pattern == "*" or (pattern.startswith("*.") and name.endswith(pattern[1:]))
        for pattern in allowed
    )
