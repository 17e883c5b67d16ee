"""Helper that receives the messages of a subscription."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

# % filter replace("package_name", cookiecutter.package_name)
from package_name.live.bus import Subscription
from package_name.live.local import LocalBus

from ..helpers import TIMEOUT

# % endfilter
Join = Callable[[], Awaitable[LocalBus]]


async def receive(messages: Subscription, count: int) -> list[Any]:
    """Return the next messages. Raise TimeoutError if they do not arrive."""
    async with asyncio.timeout(TIMEOUT):
        return [await anext(messages) for _ in range(count)]
