"""The bus: what one worker publishes reaches the subscribers in all workers.

    await app[BUS].publish("channel", {"any": "JSON"})

    async with app[BUS].subscribe("channel") as messages:
        async for message in messages: ...

Messages of one publisher arrive in order, and at most once: those for a worker that is dead or too
far behind are dropped, and counted.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import orjson
from aiohttp import web

MAX_SIZE: Final = 64 * 1024
"""The largest message, in bytes of JSON."""
MAX_WAITING: Final = 1000
"""Messages that may wait for one subscriber: those of a second, on a busy bus."""

_CHANNEL: Final = re.compile(r"[\w:.-]{1,128}", re.ASCII)


class SlowSubscriberError(Exception):
    """More messages came than the subscriber took, and it has missed some."""


class Subscription:
    """The messages of a channel from the subscription on; for one reader."""

    def __init__(self) -> None:
        """Begin with no message."""
        self._waiting: asyncio.Queue[Any] = asyncio.Queue(MAX_WAITING)
        self._missed = 0

    def put(self, message: object) -> None:
        """Let the message wait, unless too many do; never blocks."""
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self._missed += 1

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next message, shared with other subscribers: to be read only.

        Raises SlowSubscriberError once a message was missed.
        """
        if self._missed:
            raise SlowSubscriberError(f"{self._missed} messages missed")
        return await self._waiting.get()


class Bus(ABC):
    """What all backends have in common: the subscribers in this worker."""

    def __init__(self) -> None:
        """Begin with no subscriber."""
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)

    async def publish(self, channel: str, message: object) -> None:
        """Send a message to all subscribers of a channel, those in this worker included.

        Raises ValueError when the name of the channel is no name, or the message too large, and
        TypeError when it cannot be written as JSON.
        """
        if not _CHANNEL.fullmatch(channel):
            raise ValueError(f"{channel!r} is no name of a channel")
        data = orjson.dumps(message)
        if len(data) > MAX_SIZE:
            raise ValueError(f"a message of {len(data)} bytes is larger than {MAX_SIZE}")
        await self._send(channel, data)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Subscription]:
        """Receive what is published to a channel, until the context ends."""
        subscription = Subscription()
        self._subscriptions[channel].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[channel].discard(subscription)
            if not self._subscriptions[channel]:
                del self._subscriptions[channel]

    def _deliver(self, channel: str, data: bytes) -> None:
        if channel in self._subscriptions:
            message = orjson.loads(data)
            for subscription in self._subscriptions[channel]:
                subscription.put(message)

    @abstractmethod
    async def _send(self, channel: str, data: bytes) -> None:
        """Bring the message to every worker's _deliver, this one's included."""

    @abstractmethod
    async def open(self) -> None:
        """Join the other workers. Raises OSError when that cannot be."""

    @abstractmethod
    async def check(self) -> None:
        """Mend what has broken meanwhile. Raises OSError when that cannot be."""

    @abstractmethod
    async def close(self) -> None:
        """Leave."""


BUS: Final = web.AppKey("BUS", Bus)
