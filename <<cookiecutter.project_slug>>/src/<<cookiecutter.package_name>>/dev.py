"""The development server's entry point, for ``adev runserver`` (``make dev``), and all it adds."""

import aiohttp_debugtoolbar
from aiohttp import web

from . import logs
from .app import create_app
from .settings import load_settings
from .web.body_log import body_log
from .web.headers import CSP, POLICY

TOOLBAR = "/_debugtoolbar"


async def _relax_policy(request: web.Request, response: web.StreamResponse) -> None:
    """Allow what adev and the toolbar put into pages: a script from the next port, inline styles."""
    if request.path.startswith(TOOLBAR):  # its own pages are made of inline scripts
        del response.headers[CSP]
        return
    live_reload = f"{request.url.host}:{(request.url.port or 80) + 1}"
    policy = POLICY | {
        "connect-src": f"'self' ws://{live_reload}",
        "script-src": f"'self' http://{live_reload}",
        "style-src": "'self' 'unsafe-inline'",
    }
    response.headers[CSP] = "; ".join(f"{name} {sources}" for name, sources in policy.items())


def app_factory() -> web.Application:
    """Return the application with live reload, the debug toolbar and a log of JSON bodies.

    Raises SystemExit when ENVIRONMENT is not development.
    """
    settings = load_settings()
    if not settings.development:
        raise SystemExit("adev is for ENVIRONMENT=development; `make serve` is for production")
    logs.configure(level=settings.log_level, json=False)
    app = create_app(settings)
    app.middlewares.append(body_log(limit=4096))
    app.on_response_prepare.append(_relax_policy)
    aiohttp_debugtoolbar.setup(app, path_prefix=TOOLBAR, intercept_redirects=False)
    return app
