"""Sessions of signed-in users: an encrypted cookie, without state on the server."""

import base64
import hashlib
import time
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web
from aiohttp_session import AbstractStorage, Session, get_session, new_session
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..web.context import SETTINGS, get_context
from .accounts import ACCOUNTS

REFRESH: Final = 1 / 30
"""Fraction of SESSION_IDLE_TIMEOUT after which an active session gets a new cookie."""


def _cookie(request: web.Request, name: str) -> bytes:
    """Return the value of the cookie with exactly this name; empty if there is none, or several.

    aiohttp's parser strips Unicode spaces. Another host of the domain could therefore set a name
    that begins with one, to which browsers do not apply the rules of ``__Host-``.
    """
    headers = [value for key, value in request.raw_headers if key.lower() == b"cookie"]
    pairs = [pair.partition(b"=") for header in headers for pair in header.split(b";")]
    found = [value for key, _, value in pairs if key.strip(b" \t") == name.encode()]
    return found[0].strip(b' \t"') if len(found) == 1 else b""


def _fernet(secret: str) -> Fernet:
    """Return the cipher whose key is derived from a key of SECRET_KEYS (RFC 5869)."""
    key = HKDF(SHA256(), length=32, salt=None, info=b"session cookie").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))


class CookieStorage(AbstractStorage):
    """Storage of sessions in a cookie, encrypted with the first key and decrypted with any of them.

    Behind TLS the cookie's name begins with ``__Host-``, so no other host can set it (RFC 6265bis).
    """

    def __init__(self, keys: Iterable[str], *, idle_timeout: int) -> None:
        """Create the storage from SECRET_KEYS and the seconds after which a cookie expires."""
        super().__init__(max_age=idle_timeout)
        self._cipher = MultiFernet([_fernet(key) for key in keys])

    def _attributes(self, request: web.Request) -> dict[str, Any]:
        secure = get_context(request).secure
        name = "__Host-session" if secure else "session"
        return {"name": name, "secure": secure, "httponly": True, "samesite": "Lax"}

    async def load_session(self, request: web.Request) -> Session:
        """Return the session in the cookie, or a new one if the cookie is expired or invalid."""
        cookie = _cookie(request, self._attributes(request)["name"])
        try:
            data = self._decoder(self._cipher.decrypt(cookie, ttl=self.max_age).decode())
        except (InvalidToken, ValueError):
            data = None
        return Session(None, data=data, new=data is None, max_age=self.max_age)

    async def save_session(
        self, request: web.Request, response: web.StreamResponse, session: Session
    ) -> None:
        """Set the cookie, or delete it if the session is empty."""
        attributes = self._attributes(request)
        if session.empty:
            response.del_cookie(**attributes)
        else:
            data = self._encoder(self._get_session_data(session)).encode()
            value = self._cipher.encrypt(data).decode()
            response.set_cookie(**attributes, value=value, max_age=self.max_age)


def _fingerprint(hashed: str) -> str:
    """Return a fingerprint of the password's hash: the session ends when the password changes."""
    return hashlib.sha256(hashed.encode()).hexdigest()


async def begin(request: web.Request, name: str) -> None:
    """Sign in to an account, in a new session. Raises KeyError if the account does not exist."""
    hashed = request.config_dict[ACCOUNTS].hash_of(name)
    if hashed is None:
        raise KeyError(name)
    session = await new_session(request)
    now = int(time.time())
    session.update(account=name, password=_fingerprint(hashed), began=now, seen=now)


async def end(request: web.Request) -> None:
    """Sign the user out."""
    (await get_session(request)).invalidate()


async def current(request: web.Request) -> str | None:
    """Return the name of the signed-in account, or None, and keep its session alive."""
    session = await get_session(request)
    if session.empty:
        return None
    name: str = session["account"]
    hashed = request.config_dict[ACCOUNTS].hash_of(name)
    settings = request.config_dict[SETTINGS]
    now = int(time.time())
    too_old = now - session["began"] > settings.session_lifetime
    if hashed is None or session["password"] != _fingerprint(hashed) or too_old:
        session.invalidate()
        return None
    if now - session["seen"] >= REFRESH * settings.session_idle_timeout:
        session["seen"] = now
    return name


async def seconds_left(request: web.Request) -> float:
    """Return the seconds until the session expires if there are no further requests."""
    session = await get_session(request)
    settings = request.config_dict[SETTINGS]
    ends = min(
        session["began"] + settings.session_lifetime,
        session["seen"] + settings.session_idle_timeout,
    )
    return max(float(ends - time.time()), 0.0)
