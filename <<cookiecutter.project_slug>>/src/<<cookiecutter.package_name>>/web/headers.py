"""Headers of every response: security, the request's id, caching.

They are set in ``on_response_prepare``, which streams, WebSockets and error pages pass too. The
values follow OWASP's HTTP Headers Cheat Sheet, less what standards have retired since.
"""

from typing import Final

from aiohttp import hdrs, web
from multidict import istr

from .context import HEADER, get_context

CSP: Final = istr("Content-Security-Policy")
HSTS: Final = istr("Strict-Transport-Security")
REQUEST_ID: Final = istr(HEADER)

REVALIDATE: Final = "private, no-cache"
"""A Cache-Control for pages: the browser may keep them, for one visitor, and asks again each time."""

POLICY: Final = {
    "default-src": "'none'",
    "base-uri": "'none'",
    "connect-src": "'self'",
    "font-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "img-src": "'self'",
    "manifest-src": "'self'",
    "style-src": "'self'",
}
"""Everything but scripts; those are allowed one response at a time, by its nonce."""

_FIXED: Final = {
    istr("Cross-Origin-Opener-Policy"): "same-origin",
    istr("Cross-Origin-Resource-Policy"): "same-origin",
    istr("Permissions-Policy"): "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    istr("Referrer-Policy"): "strict-origin-when-cross-origin",
    istr("X-Content-Type-Options"): "nosniff",
    istr("X-Frame-Options"): "DENY",
}
_POLICY: Final = "; ".join(f"{directive} {sources}" for directive, sources in POLICY.items())
_TWO_YEARS: Final = "max-age=63072000"


def harden(response: web.StreamResponse, request_id: str, nonce: str | None = None) -> None:
    """Set the headers that do not depend on the request; scripts may run that carry the nonce."""
    headers = response.headers
    headers.pop(hdrs.SERVER, None)  # names the versions of Python and aiohttp
    headers.update(_FIXED)
    headers[REQUEST_ID] = request_id
    script = f"; script-src 'nonce-{nonce}' 'strict-dynamic'" if nonce else ""
    if response.status != 304:  # else the page that the browser keeps would get another nonce
        headers.setdefault(CSP, _POLICY + script)
    if response.status >= 400:  # whatever was meant for the page that it did not become
        headers[hdrs.CACHE_CONTROL] = "no-store"
    else:
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    context = get_context(request)
    harden(response, context.request_id, context.nonce)
    if context.secure:
        response.headers[HSTS] = _TWO_YEARS


def setup(app: web.Application) -> None:
    """Set the headers on every response of the application and of those nested in it."""
    app.on_response_prepare.append(_set_headers)
