"""A thread pool whose threads see the context of whoever gave them work (row W10)."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from aiohttp import web

from .readiness import add_check

P = ParamSpec("P")
T = TypeVar("T")


class ContextExecutor(ThreadPoolExecutor):
    """Carry context variables, the request's id among them, into the threads.

    ``asyncio.to_thread`` does so by itself; ``loop.run_in_executor``, which libraries use, does not.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in a thread, in a copy of the caller's context."""
        return super().submit(copy_context().run, partial(fn, *args, **kwargs))


async def _use_as_default(_app: web.Application) -> None:
    # The loop shuts it down: asyncio.Runner and gunicorn's worker close the loop.
    asyncio.get_running_loop().set_default_executor(ContextExecutor(thread_name_prefix="worker"))


async def _answers() -> None:
    await asyncio.to_thread(lambda: None)


def setup(app: web.Application) -> None:
    """Make it the loop's executor; the worker is not ready while all its threads are busy."""
    app.on_startup.append(_use_as_default)
    add_check(app, "threads", _answers)
