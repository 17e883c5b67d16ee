"""Forwarded headers, believed only from the proxies that TRUSTED_PROXIES names.

aiohttp-remotes was tried and left out: its strict classes cannot tell who speaks over a Unix socket,
and its filtered one never asks whether the peer itself is a proxy.
"""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, TypedDict

from aiohttp import hdrs, web

from ..settings import Peer

_HOST: Final = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def is_trusted(address: str | None, trusted: Sequence[Peer]) -> bool:
    """Tell whether a peer is a trusted proxy; None is whoever speaks over a Unix socket."""
    if not address:
        return "unix" in trusted
    ip = ip_address(address.partition("%")[0])
    if (mapped := getattr(ip, "ipv4_mapped", None)) is not None:
        ip = mapped
    return any(peer != "unix" and ip in peer for peer in trusted)


def client_address(forwarded_for: str, trusted: Sequence[Peer]) -> str:
    """Return the client's address: the last one in X-Forwarded-For that is no trusted proxy.

    Raises ValueError when an element is not an address.
    """
    addresses = [str(ip_address(part.strip())) for part in forwarded_for.split(",")]
    for address in reversed(addresses):
        if not is_trusted(address, trusted):
            return address
    return addresses[0]


def _single(request: web.Request, name: str) -> str | None:
    """Return a header that may be there at most once."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise ValueError(f"more than one {name}")
    return values[0].strip() if values else None


class Facts(TypedDict, total=False):
    """What a proxy can say of the client: keywords of ``request.clone``."""

    remote: str
    scheme: str
    host: str


def forwarded(request: web.Request, trusted: Sequence[Peer]) -> Facts:
    """Return what a trusted proxy says of the client.

    Raises ValueError when a header is malformed.
    """
    facts: Facts = {}
    addresses = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
    if addresses:
        facts["remote"] = client_address(",".join(addresses), trusted)
    if (scheme := _single(request, hdrs.X_FORWARDED_PROTO)) is not None:
        if scheme not in {"http", "https"}:
            raise ValueError(f"{hdrs.X_FORWARDED_PROTO} is neither http nor https")
        facts["scheme"] = scheme
    if (host := _single(request, hdrs.X_FORWARDED_HOST)) is not None:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{hdrs.X_FORWARDED_HOST} is not a host")
        facts["host"] = host
    return facts
