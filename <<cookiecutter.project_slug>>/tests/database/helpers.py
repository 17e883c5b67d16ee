"""Helpers that reach a database's timeouts without waiting, and that check its readiness."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

import pytest
from aiohttp import web

from ..helpers import TIMEOUT, Client


async def timed_out(
    waiting: Awaitable[object], advance: Callable[[float], None]
) -> web.HTTPServiceUnavailable:
    """Advance the clock until the awaitable ends, and return the 503 that it raises."""
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    assert not task.done()
    deadline = perf_counter() + TIMEOUT  # a clock that does not jump
    while not task.done():
        assert perf_counter() < deadline
        advance(TIMEOUT)
        await asyncio.sleep(0.005)
    with pytest.raises(web.HTTPServiceUnavailable) as caught:
        await task
    return caught.value


async def is_ready(client: Client) -> bool:
    """Return True if /readyz does not list the database as down."""
    async with client.get("/readyz") as response:
        return "database" not in (await response.json())["down"]
