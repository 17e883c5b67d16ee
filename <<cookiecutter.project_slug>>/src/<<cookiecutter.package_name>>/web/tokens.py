"""Bearer tokens, which authorize programs to write (RFC 6750)."""

from hmac import compare_digest

from aiohttp import hdrs, web

from .context import SETTINGS


def has_token(request: web.Request) -> bool:
    """Return True if a request carries one of API_TOKENS, False if it has no bearer token.

    Raises web.HTTPUnauthorized if the token is unknown.
    """
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    given = token.strip().encode(errors="surrogateescape")
    known = request.config_dict[SETTINGS].api_tokens
    if any(compare_digest(given, each.get_secret_value().encode()) for each in known):
        return True
    raise web.HTTPUnauthorized(
        text="This token is not known.",
        headers={hdrs.WWW_AUTHENTICATE: 'Bearer error="invalid_token"'},
    )


def require_token(request: web.Request) -> None:
    """Raise web.HTTPUnauthorized unless the request carries one of API_TOKENS."""
    if not has_token(request):
        raise web.HTTPUnauthorized(
            text="Send a token: Authorization: Bearer ...",
            headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
        )
