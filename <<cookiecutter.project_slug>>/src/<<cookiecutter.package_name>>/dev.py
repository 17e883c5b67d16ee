"""Entry point and additions of the development server (``make dev``): adev, with live reload."""

import argparse
import asyncio
import logging
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import aiohttp_debugtoolbar
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp_devtools.runserver import runserver, serve

from . import logs
from .app import create_app
from .deployment import Deployment, check_reach
from .environment import doubts, read
from .settings import Settings, load_settings
from .web import guard
from .web.body_log import body_log
from .web.headers import CSP, POLICY
from .web.hosts import origin
from .web.proxy import peer_address

logger = logging.getLogger(__name__)

TOOLBAR = "/_debugtoolbar"
LINTER = (sys.executable, "-m", "ruff", "check", "--watch", "--output-format=concise", "--no-cache")


async def _relax_policy(request: web.Request, response: web.StreamResponse) -> None:
    """Allow the additions of adev and the toolbar: a script from the next port, inline styles."""
    if request.path.startswith(TOOLBAR):  # its own pages use inline scripts
        response.headers.pop(CSP, None)  # a 304 has none
        return
    try:
        _, host, port = origin(f"http://{request.host}")
    except ValueError:  # the response reports this
        return
    live_reload = f"{host}:{port + 1}"
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
    """Run ruff for the lifetime of the app, and log its findings each time a file is saved."""
    source = Path(__file__).parent
    process = await asyncio.create_subprocess_exec(*LINTER, source, stdout=PIPE, stderr=STDOUT)
    reporting = asyncio.create_task(_report(cast(asyncio.StreamReader, process.stdout)))
    yield
    with suppress(ProcessLookupError):  # it may have exited already
        process.terminate()
    await process.wait()
    await reporting


def _load_settings() -> tuple[Settings, Deployment]:
    settings, deployment = load_settings(), read(Deployment)
    if not settings.development:
        raise SystemExit("adev is for ENVIRONMENT=development; `make serve` is for production")
    check_reach(settings, f"{deployment.host}:{deployment.port}")
    logs.configure(level=settings.log_level, json=False)
    serve.HOST = deployment.host.strip("[]")  # not an option yet: aio-libs/aiohttp-devtools#708
    return settings, deployment


def _check_ports(host: str, port: int) -> None:
    """Raise SystemExit if adev cannot listen on a port, or live reload on the next one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number, what in ((port, "make dev"), (port + 1, "live reload, which takes the next port")):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, number))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SystemExit(
                f"Cannot listen on {host}:{number} for {what}: {reason}; choose another PORT, for"
                " example `make dev PORT=8090`"
            ) from None


def app_factory() -> web.Application:
    """Return the application with live reload, the debug toolbar, ruff's findings and body logging.

    adev calls this in a separate process. Raises SystemExit if ENVIRONMENT is not development.
    """
    settings, _ = _load_settings()
    app = create_app(settings)
    app.middlewares.append(body_log(limit=4096))
    app.on_response_prepare.append(_relax_policy)
    app.cleanup_ctx.append(_linter)
    aiohttp_debugtoolbar.setup(app, path_prefix=TOOLBAR, intercept_redirects=False)
    return app


def main() -> None:
    """Run the application under adev on HOST and PORT, and live reload on the next port.

    Raises SystemExit if ENVIRONMENT is not development, or a port is taken.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.dev", description="Develop.")
    parser.add_argument("--port", type=int, help="TCP port (default: PORT)")
    port = parser.parse_args().port
    settings, deployment = _load_settings()
    port = deployment.port if port is None else port
    _check_ports(serve.HOST, port)
    for sentence in doubts():
        logger.warning(sentence)

    @web.middleware
    async def check_peer(request: web.Request, handler: Handler) -> web.StreamResponse:
        guard.check_peer(request, peer_address(request), settings.dev_allow)
        return await handler(request)

    source = Path(__file__).parent
    adev = runserver(
        app_path=__file__,
        app_factory_name=app_factory.__name__,
        root_path=str(source.parent),
        static_path=str(source / "static"),
        main_port=port,
    )
    adev["app"].middlewares.append(check_peer)
    adev["host"] = serve.HOST
    web.run_app(**adev, access_log=None, print=None)


if __name__ == "__main__":
    main()
