"""Fixtures: buses that share a folder, as workers do."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.live.local import LocalBus

from .helpers import Join


# % endfilter
@pytest.fixture
def folder() -> Path:
    """Return the folder of BUS_URL, which the workers share."""
    return Path(os.environ["BUS_URL"].removeprefix("local:"))


@pytest.fixture
async def join(folder: Path) -> AsyncIterator[Join]:
    """Return a function that opens a bus and closes it after the test."""
    async with AsyncExitStack() as stack:

        async def join() -> LocalBus:
            bus = LocalBus(folder)
            await bus.open()
            stack.push_async_callback(bus.close)
            return bus

        yield join
