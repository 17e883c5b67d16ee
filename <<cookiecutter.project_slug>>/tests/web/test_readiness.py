import asyncio
from collections.abc import Callable

from aiohttp import web

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web import readiness

from ..helpers import until


# % endfilter
async def test_down_names_checks_that_fail_or_take_too_long(
    advance: Callable[[float], None],
) -> None:
    hanging = asyncio.Event()

    async def succeed() -> None:
        pass

    async def fail() -> None:
        raise ConnectionError

    async def hang() -> None:
        hanging.set()
        await asyncio.Event().wait()

    app = web.Application()
    for check in (succeed, fail, hang):
        readiness.add_check(app, check.__name__, check)
    down = asyncio.create_task(readiness.down(app))
    await until(hanging.is_set)
    advance(readiness.PATIENCE)
    await until(down.done)
    assert down.result() == ["fail", "hang"]
