"""The development server's entry point, for ``adev runserver`` (``make dev``), and all it adds."""

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import aiohttp_debugtoolbar
from aiohttp import web

from . import logs
from .app import create_app
from .settings import load_settings
from .web.body_log import body_log
from .web.headers import CSP, POLICY

logger = logging.getLogger(__name__)

TOOLBAR = "/_debugtoolbar"
LINTER = (sys.executable, "-m", "ruff", "check", "--watch", "--output-format=concise", "--no-cache")


async def _relax_policy(request: web.Request, response: web.StreamResponse) -> None:
    """Allow what adev and the toolbar put into pages: a script from the next port, inline styles."""
    if request.path.startswith(TOOLBAR):  # its own pages are made of inline scripts
        response.headers.pop(CSP, None)  # a 304 has none
        return
    live_reload = f"{request.url.host}:{(request.url.port or 80) + 1}"
    policy = POLICY | {
        "connect-src": f"'self' ws://{live_reload}",
        "script-src": f"'self' http://{live_reload}",
        "style-src": "'self' 'unsafe-inline'",
    }
    response.headers[CSP] = "; ".join(f"{name} {sources}" for name, sources in policy.items())


async def _report(output: asyncio.StreamReader) -> None:
    async for line in output:
        if ".py:" in (text := line.decode(errors="replace").strip()):
            logger.warning(text)


async def _linter(_app: web.Application) -> AsyncIterator[None]:
    """Log what ruff finds, each time a file is saved: a process that lives as long as the app."""
    source = Path(__file__).parent
    process = await asyncio.create_subprocess_exec(*LINTER, source, stdout=PIPE, stderr=STDOUT)
    reporting = asyncio.create_task(_report(cast(asyncio.StreamReader, process.stdout)))
    yield
    with suppress(ProcessLookupError):  # it may have ended by itself
        process.terminate()
    await process.wait()
    await reporting


def app_factory() -> web.Application:
    """Return the application with live reload, the debug toolbar, ruff's findings and a log of bodies.

    Raises SystemExit when ENVIRONMENT is not development.
    """
    settings = load_settings()
    if not settings.development:
        raise SystemExit("adev is for ENVIRONMENT=development; `make serve` is for production")
    logs.configure(level=settings.log_level, json=False)
    app = create_app(settings)
    app.middlewares.append(body_log(limit=4096))
    app.on_response_prepare.append(_relax_policy)
    app.cleanup_ctx.append(_linter)
    aiohttp_debugtoolbar.setup(app, path_prefix=TOOLBAR, intercept_redirects=False)
    return app
