"""Event-loop timers, which tests wait for instead of real time."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from ..helpers import until


class Timers:
    """Timers of a second or more that were set with ``loop.call_later`` (sleep() uses it)."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self.pending: list[float] = []
        self.advance = advance

    async def wait_for(self, delay: float) -> None:
        """Wait until a timer of ``delay`` seconds is set, and remove it from the pending ones."""
        try:
            await until(lambda: delay in self.pending)
        except TimeoutError:
            raise AssertionError(f"no timer of {delay} s, but of {self.pending}") from None
        self.pending.remove(delay)

    async def fire(self, delay: float) -> None:
        """Wait until a timer of ``delay`` seconds is set, and move the clock to make it due."""
        await self.wait_for(delay)
        self.advance(delay)


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch, advance: Callable[[float], None]) -> Timers:
    """Return the timers that are set from now on."""
    loop, timers = asyncio.get_running_loop(), Timers(advance)
    call_later = loop.call_later

    def record(
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if delay >= 1:
            timers.pending.append(delay)
        return call_later(delay, callback, *args, context=context)

    monkeypatch.setattr(loop, "call_later", record)
    return timers
