import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar

import aiojobs.aiohttp
from aiohttp import web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.live import BUS

from .helpers import TIMEOUT, run_due_callbacks, until

# % endfilter
STARTED: ContextVar[str] = ContextVar("STARTED")
TOUCHED: ContextVar[str] = ContextVar("TOUCHED")


async def test_handlers_see_context_variables_of_startup_but_not_of_each_other(
    aiohttp_client: AiohttpClient,
) -> None:
    async def start(_app: web.Application) -> None:
        STARTED.set("at start-up")

    async def handler(_request: web.Request) -> web.Response:
        seen = TOUCHED.get("untouched")
        TOUCHED.set("touched")
        return web.json_response([STARTED.get("unseen"), seen])

    app = create_app()
    app.on_startup.append(start)
    app.router.add_get("/variables", handler)
    client = await aiohttp_client(app)
    for _ in range(2):  # on the same connection
        async with client.get("/variables") as response:
            assert await response.json() == ["at start-up", "untouched"]


async def test_client_that_leaves_cancels_its_handler_but_not_shielded_work(
    aiohttp_client: AiohttpClient,
) -> None:
    started, cancelled, proceed, written = (asyncio.Event() for _ in range(4))

    async def write() -> None:
        started.set()
        await proceed.wait()
        written.set()

    async def handler(request: web.Request) -> web.Response:
        try:
            await aiojobs.aiohttp.shield(request, write())
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return web.Response()

    app = create_app()
    app.router.add_get("/slow", handler)
    client = await aiohttp_client(app)
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(TIMEOUT):
        await started.wait()
        writer.transport.abort()
        await cancelled.wait()
        assert not written.is_set()
        proceed.set()
        await written.wait()


async def test_spawned_work_is_finished_before_the_bus_closes(
    aiohttp_client: AiohttpClient,
) -> None:
    stopping, received = asyncio.Event(), []

    async def listen(app: web.Application) -> None:
        async with app[BUS].subscribe("channel") as messages:
            received.append(await anext(messages))

    async def handler(request: web.Request) -> web.Response:
        await aiojobs.aiohttp.spawn(request, listen(request.app))
        return web.Response()

    async def signal_cleanup(_app: web.Application) -> AsyncIterator[None]:
        yield
        stopping.set()

    app, other_worker = create_app(), create_app()
    app.router.add_get("/listen", handler)
    app.cleanup_ctx.append(signal_cleanup)  # the last to start is the first to be cleaned up
    client = await aiohttp_client(app)
    await aiohttp_client(other_worker)
    async with client.get("/listen") as response:
        assert response.status == 200
    closing = asyncio.create_task(client.close())
    await until(stopping.is_set)
    await run_due_callbacks()
    await other_worker[BUS].publish("channel", "still open")
    await closing
    assert received == ["still open"]
