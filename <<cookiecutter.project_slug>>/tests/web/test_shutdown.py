from collections.abc import AsyncIterator

import pytest
from aiohttp import web

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web.shutdown import Runner


# % endfilter
async def test_start_that_fails_cleans_up_what_was_started() -> None:
    events: list[str] = []

    async def first(_app: web.Application) -> AsyncIterator[None]:
        events.append("started")
        yield
        events.append("cleaned up")

    async def failing(_app: web.Application) -> None:
        raise SystemExit("cannot start")

    app = create_app()
    app.cleanup_ctx.append(first)
    app.on_startup.append(failing)
    runner = Runner(app)
    with pytest.raises(SystemExit, match="cannot start"):
        await runner.setup()
    assert events == ["started", "cleaned up"]
    await runner.cleanup()  # as the standalone server does
    assert events == ["started", "cleaned up"]
