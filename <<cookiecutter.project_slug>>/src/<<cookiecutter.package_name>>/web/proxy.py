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


def client_address(forwarded_for: str, trusted: Sequence[Peer]) -> str:
    """Return the client's address: the last one in X-Forwarded-For that is no trusted proxy.

    What stands before it was sent by the client, and is not looked at. Some proxies add ports.
    Raises ValueError when an element that counts is not an address.
    """
    address = ""
    for element in reversed(forwarded_for.split(",")):
        if match := _PORT.fullmatch(element.strip()):
            element = match[1] or match[2]
        address = str(_address(element.strip()))
        if not is_trusted(address, trusted):
            break
    return address


def _single(request: web.Request, name: str) -> str:
    """Return a header that may be there once; empty when it is not."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise ValueError(f"more than one {name}")
    return values[0].strip() if values else ""


def forwarded(request: web.Request, trusted: Sequence[Peer]) -> Facts:
    """Return what a trusted proxy says of the client.

    Raises ValueError when a header is malformed.
    """
    facts: Facts = {}
    if addresses := ",".join(filter(None, request.headers.getall(hdrs.X_FORWARDED_FOR, []))):
        facts["remote"] = client_address(addresses, trusted)
    if scheme := _single(request, hdrs.X_FORWARDED_PROTO).lower():
        if scheme not in _SCHEMES:
            raise ValueError(f"{hdrs.X_FORWARDED_PROTO} is neither http nor https")
        facts["scheme"] = _SCHEMES[scheme]
    if host := _single(request, hdrs.X_FORWARDED_HOST):
        try:
            host_name(host)
        except ValueError as error:
            raise ValueError(f"{hdrs.X_FORWARDED_HOST} is {error}") from None
        facts["host"] = host
    return facts
