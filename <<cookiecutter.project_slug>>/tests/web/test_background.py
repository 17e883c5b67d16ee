import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.settings import SETTINGS, load_settings
from package_name.web import background, lag
from package_name.web.background import Work, every, supervise


# % endfilter
@asynccontextmanager
async def doing(work: Work) -> AsyncIterator[None]:
    """Run an application that does nothing else."""
    app = web.Application()
    app[SETTINGS] = load_settings()
    supervise(app, work)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        yield
    finally:
        async with asyncio.timeout(20):
            await runner.cleanup()


@pytest.mark.parametrize(
    ("durations", "delays"),
    [
        ([0.0, 0.0, 0.0, 0.0, 0.0], [0.02, 0.04, 0.08, 0.1, 0.1]),
        ([0.0, 0.0, 0.2, 0.0], [0.02, 0.04, 0.02, 0.04]),  # it went well for long enough
    ],
)
async def test_work_that_crashes_starts_again_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    durations: list[float],
    delays: list[float],
) -> None:
    monkeypatch.setattr(background, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(background, "LONGEST_DELAY", 0.1)
    began, crashed, enough = list[float](), list[float](), asyncio.Event()

    async def work(_app: web.Application) -> None:
        began.append(time.monotonic())
        if len(crashed) == len(durations):
            enough.set()
            return  # and it is left at that
        await asyncio.sleep(durations[len(crashed)])
        crashed.append(time.monotonic())
        raise ValueError("for the log")

    async with doing(work), asyncio.timeout(20):
        await enough.wait()
    assert len(began) == len(delays) + 1
    waited = [after - before for before, after in zip(crashed, began[1:], strict=True)]
    assert all(wait >= delay for wait, delay in zip(waited, delays, strict=True))
    said = [record for record in caplog.records if record.name == background.__name__]
    assert [record.message for record in said] == [
        f"{work.__qualname__} crashed, and starts again in {delay:g} s" for delay in delays
    ]
    assert all(record.exc_info and record.exc_info[0] is ValueError for record in said)


async def test_work_that_will_not_be_cancelled_does_not_start_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began = []

    async def work(_app: web.Application) -> None:
        began.append(True)
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("for the log")

    async with doing(work):
        await asyncio.sleep(0.05)
    assert len(began) == 1
    assert "crashed in the end" in caplog.text


async def test_a_cancellation_from_within_is_a_crash(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "FIRST_DELAY", 0.02)
    turns, enough = [], asyncio.Event()

    async def turn(_app: web.Application) -> None:
        turns.append(True)
        if len(turns) == 2:
            enough.set()
        raise asyncio.CancelledError

    async with doing(every(0.01, turn)), asyncio.timeout(20):
        await enough.wait()
    assert "crashed, and starts again" in caplog.text


async def test_at_the_end_work_is_cancelled_and_waited_for() -> None:
    steps = []

    async def work(_app: web.Application) -> None:
        try:
            steps.append("begun")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            steps.append("tidied up")

    async with doing(work):
        await asyncio.sleep(0)
        assert steps == ["begun"]
    assert steps == ["begun", "tidied up"]


async def test_what_is_done_every_so_often_goes_on_after_a_crash(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "FIRST_DELAY", 0.01)
    turns, enough = list[float](), asyncio.Event()

    async def turn(_app: web.Application) -> None:
        turns.append(time.monotonic())
        if len(turns) == 2:
            raise ValueError
        if len(turns) == 4:
            enough.set()

    began = time.monotonic()
    async with doing(every(0.05, turn)), asyncio.timeout(20):
        await enough.wait()
    assert all(b - a >= 0.05 for a, b in zip([began, *turns], turns, strict=False))
    assert f"{turn.__qualname__} crashed" in caplog.text


@pytest.mark.parametrize(("grace", "end"), [("20", "finished"), ("0.1", "cancelled")])
async def test_a_turn_that_has_begun_is_finished_if_there_is_time(
    monkeypatch: pytest.MonkeyPatch, grace: str, end: str
) -> None:
    monkeypatch.setenv("GRACEFUL_TIMEOUT", grace)
    begun, ends = asyncio.Event(), []

    async def turn(_app: web.Application) -> None:
        begun.set()
        try:
            await asyncio.sleep(0.3 if end == "finished" else 60)
            ends.append("finished")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async with doing(every(0.01, turn)):
        await begun.wait()
    await asyncio.sleep(0)
    assert ends == [end]


async def test_what_blocks_the_event_loop_is_seen(
    aiohttp_client: AiohttpClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        time.sleep(0.3)  # noqa: ASYNC251 - that is the mistake
        return web.Response()

    monkeypatch.setattr(lag, "INTERVAL", 0.1)
    app = create_app()
    app.router.add_get("/blocking", handler)
    client = await aiohttp_client(app)
    await client.get("/blocking")
    await asyncio.sleep(0.01)  # for the measurement that was due
    async with client.get("/livez") as response:
        answer = await response.json()
    assert answer["status"] == "alive"
    assert 100 <= answer["lag_ms"] < 20_000
    (warning, *_) = [record for record in caplog.records if record.name == lag.__name__]
    assert warning.levelno == logging.WARNING
    assert warning.message.startswith("the event loop was blocked for ")


async def test_a_measurement_of_the_lag_counts_for_a_while(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag, "INTERVAL", 0.001)
    app = create_app()
    app[lag.LAG] = [60.0]
    client = await aiohttp_client(app)
    async with asyncio.timeout(20):
        while lag.worst_lag(app) == 60:
            assert len(app[lag.LAG]) <= lag.KEPT
            async with client.get("/livez") as response:
                assert (await response.json())["lag_ms"] in range(60_001)
            await asyncio.sleep(0.001)
    assert len(app[lag.LAG]) == lag.KEPT
