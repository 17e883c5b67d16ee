import asyncio
import logging
import os
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import dev, logs


# % endfilter
@pytest.fixture(autouse=True)
def _leave_logging_alone(monkeypatch: pytest.MonkeyPatch, development: None) -> None:
    monkeypatch.setattr(logs, "configure", lambda **_: None)


# The toolbar keeps its state under a plain string.
@pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
async def test_live_reload_and_the_toolbar_are_allowed(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(dev.app_factory())
    async with client.get("/") as response:
        policy = response.headers["Content-Security-Policy"]
        assert client.port
        assert f"script-src 'self' http://127.0.0.1:{client.port + 1}" in policy
        assert "_debugtoolbar" in await response.text()
    async with client.get("/_debugtoolbar") as response:
        assert response.status == 200
        assert "Content-Security-Policy" not in response.headers
    style = "/_debugtoolbar/static/css/toolbar_button.css"
    async with client.get(style) as response:
        known = {"If-None-Match": response.headers["ETag"]}
    async with client.get(style, headers=known) as response:
        assert response.status == 304


async def test_json_bodies_are_logged_and_still_read(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = dev.app_factory()
    app.router.add_post("/echo", echo)
    client = await aiohttp_client(app)
    caplog.set_level(logging.INFO)
    logged = []
    for send in ({"json": {"a": 1}}, {"data": {"password": "x"}}, {"json": "x" * 5000}):
        caplog.clear()
        async with client.post("/echo", **send) as response:
            assert await response.read()
        logged.append([getattr(record, "body", None) for record in caplog.records])
    assert logged[0] == ['{"a": 1}']
    assert not any(logged[1] + logged[2])


def test_it_is_for_development_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(SystemExit, match="for production"):
        dev.app_factory()


@pytest.mark.parametrize("ended", [False, True])
async def test_what_ruff_finds_is_logged_while_the_application_lives(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    ended: bool,
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "first.py").write_text("first_mistake\n")
    monkeypatch.setattr(dev, "__file__", str(source / "dev.py"))
    processes: list[Process] = []
    create = asyncio.create_subprocess_exec

    async def noted(*command: Any, **options: Any) -> Process:
        processes.append(await create(*command, **options))
        return processes[-1]

    async def said(mistake: str) -> None:
        async with asyncio.timeout(20):
            while mistake not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    client = await aiohttp_client(dev.app_factory())
    (process,) = processes
    await said("first.py:1:1: F821 Undefined name `first_mistake`")
    (source / "second.py").write_text("second_mistake\n")
    await said("second.py:1:1: F821 Undefined name `second_mistake`")
    if ended:
        process.kill()
        await process.wait()
    assert (process.returncode is not None) is ended
    async with asyncio.timeout(20):
        await client.close()
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    said_by_us = [record.message for record in caplog.records if record.name == dev.__name__]
    assert all(".py:1:1: " in message for message in said_by_us)  # not what ruff says of itself
