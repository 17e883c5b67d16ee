import asyncio
import logging
from collections.abc import Callable

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.settings import load_settings
from package_name.web import lag
from package_name.web.context import SETTINGS

from ..helpers import TIMEOUT, until


# % endfilter
async def test_blocked_event_loop_is_logged_and_reported_by_livez(
    aiohttp_client: AiohttpClient,
    advance: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def block(_request: web.Request) -> web.Response:
        advance(5)  # as if the handler had slept without await
        return web.Response()

    app = create_app()
    app.router.add_get("/block", block)
    client = await aiohttp_client(app)
    await client.get("/block")
    await until(lambda: lag.worst_lag(app) > 4)
    async with client.get("/livez") as response:
        assert (await response.json())["lag_ms"] >= 4900
    (warning, *_) = [record for record in caplog.records if record.name == lag.__name__]
    assert warning.levelno == logging.WARNING
    assert warning.message.startswith("the event loop was blocked for ")


async def test_worst_lag_counts_until_enough_newer_ones_were_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lag, "INTERVAL", 0)  # one measurement per iteration of the loop
    app = web.Application()
    app[SETTINGS] = load_settings()
    lag.setup(app)
    app[lag.LAG] = [60.0]
    runner = web.AppRunner(app)
    await runner.setup()
    kept = []
    async with asyncio.timeout(TIMEOUT):
        while lag.worst_lag(app) == 60:
            kept.append(len(app[lag.LAG]))
            await asyncio.sleep(0)
    await runner.cleanup()
    assert max(kept) == lag.KEPT
