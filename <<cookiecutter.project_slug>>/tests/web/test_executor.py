import asyncio
from collections.abc import Callable

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web import readiness

from ..helpers import TIMEOUT, Client, until
from .helpers import busy_threads


# % endfilter
async def test_worker_is_not_ready_while_all_threads_are_busy(
    client: Client, advance: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PATIENCE", TIMEOUT)  # the machine may be busy
    assert client.app
    reached = asyncio.Event()

    async def reach() -> None:
        reached.set()

    checks = client.app[readiness.CHECKS]
    for name in set(checks) - {"threads"}:  # they could time out as well
        del checks[name]
    checks["last"] = reach  # started after "threads"
    async with busy_threads():
        down = asyncio.create_task(readiness.down(client.app))
        await until(reached.is_set)
        advance(TIMEOUT)
        await until(down.done)
    assert down.result() == ["threads"]
    assert await readiness.down(client.app) == []
