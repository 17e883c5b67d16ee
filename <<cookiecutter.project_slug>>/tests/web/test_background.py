import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

# % filter replace("package_name", cookiecutter.package_name)
from package_name.settings import load_settings
from package_name.web import background
from package_name.web.background import Work, every, supervise
from package_name.web.context import SETTINGS

from ..helpers import TIMEOUT, until
from .conftest import Timers


# % endfilter
async def start(work: Work) -> web.AppRunner:
    """Start an application that only runs ``work``."""
    app = web.Application()
    app[SETTINGS] = load_settings()
    supervise(app, work)
    runner = web.AppRunner(app)
    await runner.setup()
    return runner


@asynccontextmanager
async def supervised(work: Work) -> AsyncIterator[None]:
    """Run an application that only runs ``work``, and clean it up."""
    runner = await start(work)
    try:
        yield
    finally:
        async with asyncio.timeout(TIMEOUT):
            await runner.cleanup()


@pytest.mark.parametrize(
    ("durations", "delays"),
    [
        ([0.0] * 8, [1, 2, 4, 8, 16, 32, 60, 60]),
        ([0, 0, background.LONGEST_DELAY + 1, 0], [1, 2, 1, 2]),
    ],
    ids=["crashes at once", "crashes after a long run"],
)
async def test_supervise_restarts_crashed_work_with_exponential_backoff(
    timers: Timers,
    advance: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
    durations: list[float],
    delays: list[float],
) -> None:
    starts = 0

    async def work(_app: web.Application) -> None:
        nonlocal starts
        starts += 1
        if starts <= len(durations):
            advance(durations[starts - 1])
            raise ValueError("for the log")

    async with supervised(work):
        for delay in delays:
            await timers.fire(delay)
        await until(lambda: starts > len(delays))
    assert starts == len(delays) + 1  # work that returns is not restarted
    records = [record for record in caplog.records if record.name == background.__name__]
    assert [record.message for record in records] == [
        f"{work.__qualname__} crashed, and starts again in {delay:g} s" for delay in delays
    ]
    assert all(record.exc_info and record.exc_info[0] is ValueError for record in records)


async def test_supervise_does_not_restart_work_that_crashes_when_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    starts = 0

    async def work(_app: web.Application) -> None:
        nonlocal starts
        starts += 1
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("for the log")

    async with supervised(work):
        await until(lambda: starts)
    assert starts == 1
    assert "crashed in the end" in caplog.text


async def test_supervise_cancels_work_at_cleanup_and_waits_for_it() -> None:
    steps, release = [], asyncio.Event()

    async def work(_app: web.Application) -> None:
        try:
            steps.append("started")
            await asyncio.Event().wait()
        finally:
            steps.append("cancelled")
            await release.wait()
            steps.append("tidied up")

    runner = await start(work)
    await until(lambda: steps)
    cleanup = asyncio.create_task(runner.cleanup())
    await until(lambda: len(steps) == 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not cleanup.done()
    release.set()
    await until(cleanup.done)
    assert steps == ["started", "cancelled", "tidied up"]


async def test_every_treats_cancellation_from_within_as_a_crash(
    timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def run(_app: web.Application) -> None:
        nonlocal runs
        runs += 1
        raise asyncio.CancelledError

    async with supervised(every(90, run)):
        await timers.fire(90)
        await timers.fire(background.FIRST_DELAY)
        await timers.fire(90)
        await until(lambda: runs == 2)
    assert "crashed, and starts again" in caplog.text


async def test_every_waits_before_each_run_and_goes_on_after_a_crash(
    timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def run(_app: web.Application) -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise ValueError

    async with supervised(every(90, run)):
        for number, delay in enumerate([90, 90, background.FIRST_DELAY, 90, 90]):
            await timers.wait_for(delay)
            assert runs == [0, 1, 2, 2, 3][number]
            timers.advance(delay)
        await until(lambda: runs == 4)
    assert f"{run.__qualname__} crashed" in caplog.text


@pytest.mark.parametrize("end", ["finished", "cancelled"])
async def test_every_lets_a_run_finish_at_cleanup_within_graceful_timeout(
    timers: Timers, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("GRACEFUL_TIMEOUT", "200")
    started, release, ends = asyncio.Event(), asyncio.Event(), []

    async def run(_app: web.Application) -> None:
        started.set()
        try:
            await release.wait()
            ends.append("finished")
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    runner = await start(every(90, run))
    await timers.fire(90)
    await until(started.is_set)
    cleanup = asyncio.create_task(runner.cleanup())
    await timers.wait_for(180)  # less than the 200 s after which supervise() gives up
    assert timers.pending == [200]
    assert ends == []
    if end == "finished":
        release.set()
    else:
        timers.advance(180)
    await until(lambda: cleanup.done() and ends)
    assert ends == [end]
