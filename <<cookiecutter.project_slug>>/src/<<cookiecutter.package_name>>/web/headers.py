"""Headers of every response: security, the request id, caching.

They are set in ``on_response_prepare``, which also runs for streams, WebSockets and error pages.
The values follow OWASP's HTTP Headers Cheat Sheet, without the headers that are now obsolete.
"""

from typing import Final

from aiohttp import hdrs, web
from multidict import istr

from .context import HEADER, get_context

CSP: Final = istr("Content-Security-Policy")
HSTS: Final = istr("Strict-Transport-Security")
REQUEST_ID: Final = istr(HEADER)

REVALIDATE: Final = "private, no-cache"
"""Cache-Control for pages: only the visitor's browser may store them, and it revalidates them."""

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
"""Content-Security-Policy without scripts, which each response allows with its own nonce."""

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
    """Set the headers that do not depend on the request, and allow scripts that have the nonce."""
    headers = response.headers
    headers.pop(hdrs.SERVER, None)  # it reveals the versions of Python and aiohttp
    headers.update(_FIXED)
    headers[REQUEST_ID] = request_id
    script = f"; script-src 'nonce-{nonce}' 'strict-dynamic'" if nonce else ""
    if response.status != 304:  # it would replace the nonce of the cached page
        headers.setdefault(CSP, _POLICY + script)
    if response.status >= 400:  # replaces the value for a successful response
        headers[hdrs.CACHE_CONTROL] = "no-store"
    else:
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    context = get_context(request)
    harden(response, context.request_id, context.nonce)
    if context.secure:
        response.headers[HSTS] = _TWO_YEARS


def setup(app: web.Application) -> None:
    """Set the headers on every response of the application and its nested applications."""
    app.on_response_prepare.append(_set_headers)
