import asyncio

import pytest
from aiohttp import hdrs

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web import readiness

from ..helpers import TIMEOUT, Client
from ..web.helpers import busy_threads


# % endfilter
async def test_livez_runs_no_checks_and_needs_no_thread(client: Client) -> None:
    checked = []

    async def check() -> None:
        checked.append(True)

    assert client.app
    client.app[readiness.CHECKS]["check"] = check
    async with busy_threads(), asyncio.timeout(TIMEOUT), client.get("/livez") as response:
        assert response.status == 200
        answer = await response.json()
    assert not checked
    assert set(answer) == {"status", "lag_ms"}
    assert answer["status"] == "alive"
    assert isinstance(answer["lag_ms"], int)


async def test_readyz_is_200_while_all_checks_pass_and_names_those_that_do_not(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def succeed() -> None:
        pass

    async def fail() -> None:
        raise ConnectionError

    assert client.app
    client.app[readiness.CHECKS].clear()  # remove checks that the tests may not pass
    client.app[readiness.CHECKS]["succeeding"] = succeed
    monkeypatch.setattr(readiness, "PATIENCE", TIMEOUT)  # the machine may be busy
    async with client.get("/readyz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ready", "down": []}

    client.app[readiness.CHECKS]["failing"] = fail
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert await response.json() == {"status": "not ready", "down": ["failing"]}
        assert response.headers[hdrs.CACHE_CONTROL] == "no-store"


async def test_readyz_is_503_and_livez_200_while_the_worker_drains(client: Client) -> None:
    assert client.app
    await client.app.shutdown()
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert await response.json() == {"status": "draining", "down": []}
    async with client.get("/livez") as response:
        assert response.status == 200
