"""Access control: the login page is public, everything else requires a session."""

import warnings
from collections.abc import Callable, Collection
from typing import Any

import aiohttp_session
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_exceptions import NotAppKeyWarning
from yarl import URL

from ..settings import Settings
from ..web import nesting
from ..web.context import get_context
from ..web.negotiation import accepted
from . import sessions

# aiohttp-session stores its state in the request under plain strings, which aiohttp warns about.
warnings.filterwarnings("ignore", category=NotAppKeyWarning, module="aiohttp_session")


def _ask_to_sign_in(request: web.Request) -> web.HTTPException:
    """Return a redirect to the login page for a browser that requests a page, otherwise 401."""
    app = get_context(request).app
    login = nesting.url_for(app, "admin:login")
    reads = request.method in {hdrs.METH_GET, hdrs.METH_HEAD}
    if reads and accepted(request, ("application/json", "text/html")) == "text/html":
        return web.HTTPSeeOther(login.with_query(next=str(request.rel_url)))
    return web.HTTPUnauthorized(
        text=f"Sign in at {login} first.",
        headers={hdrs.WWW_AUTHENTICATE: f'Cookie form-action="{login}"'},
    )


def _signed_in_only(public: Collection[Callable[..., Any]]) -> Middleware:
    @web.middleware
    async def signed_in_only(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Allow everybody to use the public handlers, and signed-in users to use all handlers."""
        user = await sessions.current(request)
        if user is None and request.match_info.handler not in public:
            raise _ask_to_sign_in(request)
        get_context(request).user = user or ""
        return await handler(request)

    return signed_in_only


def way_back(request: web.Request) -> URL:
    """Return the URL to redirect to after login: ``?next=`` if that is a page of the admin."""
    overview = nesting.url_for(get_context(request).app, "admin:overview")
    text = request.query.get("next", "")
    if not text.startswith(overview.path):  # before yarl decodes a host in quadratic time
        return overview
    try:
        wanted = URL(text)
    except ValueError:
        return overview
    inside = wanted.path.startswith(overview.path) and ".." not in wanted.parts
    return wanted if inside else overview


def setup(
    admin: web.Application, settings: Settings, *, public: Collection[Callable[..., Any]]
) -> None:
    """Add sessions to the admin, and require one for all but the public handlers."""
    storage = sessions.CookieStorage(
        (key.get_secret_value() for key in settings.secret_keys),
        idle_timeout=settings.session_idle_timeout,
    )
    aiohttp_session.setup(admin, storage)
    admin.middlewares.append(_signed_in_only(public))
