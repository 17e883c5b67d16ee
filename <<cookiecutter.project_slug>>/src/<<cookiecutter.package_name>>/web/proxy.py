"""Forwarded headers, believed only from the proxies that TRUSTED_PROXIES names.

aiohttp-remotes was tried and left out: its strict classes cannot tell who speaks over a Unix socket,
and its filtered one never asks whether the peer itself is a proxy.
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
"""Elements of a forwarded list that are read, from its end."""
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Facts(TypedDict, total=False):
    """What a proxy can say of the client: keywords of ``request.clone``."""

    remote: str
    scheme: str
    host: str


def _address(text: str) -> IPv4Address | IPv6Address:
    """Parse an address; ``::ffff:10.0.0.1`` is 10.0.0.1. Raises ValueError when it is none."""
    ip = ip_address(text.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def peer_address(request: web.BaseRequest) -> str | None:
    """Return the address of whoever is connected; None over a Unix socket.

    On a socket that listens for both, IPv4 addresses come as ``::ffff:10.0.0.1``.
    """
    name = request.protocol.peername
    if not isinstance(name, tuple):  # a peer's Unix socket may be called anything
        return None
    address = str(name[0])
    return str(_address(address)) if ":" in address else address


def is_trusted(address: str | None, trusted: Sequence[Peer]) -> bool:
    """Tell whether a peer is a trusted proxy; None is whoever speaks over a Unix socket."""
    if not address:
        return "unix" in trusted
    ip = _address(address)
    return any(peer != "unix" and ip in peer for peer in trusted)


def client_address(elements: Sequence[str], trusted: Sequence[Peer]) -> tuple[str, int]:
    """Return the client's address, and how many trusted proxies stand between it and the peer.

    It is the last element that is not a trusted proxy. What stands before it was sent by the client,
    and is not read. Some proxies add ports. Raises ValueError when an element that counts is not an
    address.
    """
    address = ""
    for hops, element in enumerate(reversed(elements)):
        if match := _PORT.fullmatch(element):
            element = match[1] or match[2]
        # nginx names the peer of a Unix socket so.
        address = "" if element == "unix:" else str(_address(element))
        if not is_trusted(address, trusted):
            return address, hops
    return address, MAX_HOPS


def _elements(request: web.Request, name: str) -> list[str]:
    """Return the last elements of a list (RFC 9110, section 5.6.1), which may have several lines."""
    last = ",".join(request.headers.getall(name, [])).rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    return [element for each in last if (element := each.strip(" \t"))]


def _element(request: web.Request, name: str, hops: int) -> str:
    """Return what the outermost of these proxies says; empty when it says nothing.

    Each proxy appends an element, or the outermost alone sets one.
    """
    elements = _elements(request, name)
    return elements[max(-1 - hops, -len(elements))] if elements else ""


def forwarded(request: web.Request, trusted: Sequence[Peer]) -> Facts:
    """Return what a trusted proxy says of the client.

    Raises ValueError when a header is malformed.
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
