"""Forwarded headers, which are trusted only if they come from one of TRUSTED_PROXIES.

aiohttp-remotes was tried and rejected: its strict classes cannot identify a peer on a Unix socket,
and its filtered class does not check that the peer itself is a proxy.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypedDict

from aiohttp import hdrs, web

from ..settings import Peer
from .hosts import host_name

_PORT: Final = re.compile(r"\[(.+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")
MAX_HOPS: Final = 20
"""Maximum number of elements of a forwarded list that are read, from its end."""
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Facts(TypedDict, total=False):
    """Values that a proxy reports about the client, as keyword arguments of ``request.clone``."""

    remote: str
    scheme: str
    host: str


def _address(text: str) -> IPv4Address | IPv6Address:
    """Return an IP address; ``::ffff:10.0.0.1`` becomes 10.0.0.1. Raises ValueError if invalid."""
    ip = ip_address(text.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def peer_address(request: web.BaseRequest) -> str | None:
    """Return the address of the connected peer, or None over a Unix socket.

    On a dual-stack socket, IPv4 addresses have the form ``::ffff:10.0.0.1``.
    """
    name = request.protocol.peername
    if not isinstance(name, tuple):  # the name of a peer's Unix socket is arbitrary
        return None
    address = str(name[0])
    return str(_address(address)) if ":" in address else address


def is_trusted(address: str | None, trusted: Sequence[Peer]) -> bool:
    """Return True if a peer is a trusted proxy; its address is None over a Unix socket."""
    if not address:
        return "unix" in trusted
    ip = _address(address)
    return any(peer != "unix" and ip in peer for peer in trusted)


def client_address(elements: Sequence[str], trusted: Sequence[Peer]) -> tuple[str, int]:
    """Return the client's address, and the number of trusted proxies between it and the peer.

    The address is the last element that is not a trusted proxy. Elements before it come from the
    client and are ignored. Some proxies add ports. Raises ValueError if an element that is read is
    not an address.
    """
    address = ""
    for hops, element in enumerate(reversed(elements)):
        if match := _PORT.fullmatch(element):
            element = match[1] or match[2]
        # nginx writes "unix:" for a peer on a Unix socket.
        address = "" if element == "unix:" else str(_address(element))
        if not is_trusted(address, trusted):
            return address, hops
    return address, MAX_HOPS


def _elements(request: web.Request, name: str) -> list[str]:
    """Return the last elements of a list header, which may span lines (RFC 9110, section 5.6.1)."""
    last = ",".join(request.headers.getall(name, [])).rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    return [element for each in last if (element := each.strip(" \t"))]


def _element(request: web.Request, name: str, hops: int) -> str:
    """Return the element that the outermost of these proxies sent, or an empty string.

    Each proxy appends an element, or only the outermost proxy sets one.
    """
    elements = _elements(request, name)
    return elements[max(-1 - hops, -len(elements))] if elements else ""


def forwarded(request: web.Request, trusted: Sequence[Peer]) -> Facts:
    """Return the values that a trusted proxy reports about the client.

    Raises ValueError if a header is malformed.
    """
    facts: Facts = {}
    client, hops = client_address(_elements(request, hdrs.X_FORWARDED_FOR), trusted)
    if client:
        facts["remote"] = client
    if scheme := _element(request, hdrs.X_FORWARDED_PROTO, hops).lower():
        if scheme not in _SCHEMES:
            raise ValueError(f"{hdrs.X_FORWARDED_PROTO} is neither http nor https")
        facts["scheme"] = _SCHEMES[scheme]
    if host := _element(request, hdrs.X_FORWARDED_HOST, hops):
        try:
            host_name(host)
        except ValueError as error:
            raise ValueError(f"{hdrs.X_FORWARDED_HOST} is {error}") from None
        facts["host"] = host
    return facts
