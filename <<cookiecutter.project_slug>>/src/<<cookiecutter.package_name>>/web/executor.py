"""Thread pool that runs work in the context of the caller that submitted it."""

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
    """Executor that copies context variables, such as the request id, into its threads.

    ``asyncio.to_thread`` copies them itself; ``loop.run_in_executor``, used by libraries, does not.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in a thread, in a copy of the caller's context."""
        return super().submit(copy_context().run, partial(fn, *args, **kwargs))


async def _use_as_default(_app: web.Application) -> None:
    # asyncio.Runner and gunicorn's worker close the loop, which shuts the executor down.
    asyncio.get_running_loop().set_default_executor(ContextExecutor(thread_name_prefix="worker"))


async def _answers() -> None:
    await asyncio.to_thread(lambda: None)


def setup(app: web.Application) -> None:
    """Make it the default executor; a worker is not ready while all its threads are busy."""
    app.on_startup.append(_use_as_default)
    add_check(app, "threads", _answers)
