"""The bus: messages published in one worker reach the subscribers in all workers.

    await app[BUS].publish("channel", {"any": "JSON"})

    async with app[BUS].subscribe("channel") as messages:
        async for message in messages: ...

Messages of one publisher arrive in order, and at most once: messages for a worker that is dead or
too far behind are dropped and counted.
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
"""Maximum size of a message, in bytes of JSON."""
MAX_WAITING: Final = 1000
"""Maximum number of messages queued for a subscriber: one second of messages on a busy bus."""

_CHANNEL: Final = re.compile(r"[\w:.-]{1,128}", re.ASCII)


class SlowSubscriberError(Exception):
    """Raised if the queue of a subscriber was full and it has missed messages."""


class Subscription:
    """The messages of a channel since the subscription; for one reader."""

    def __init__(self) -> None:
        """Create an empty subscription."""
        self._waiting: asyncio.Queue[Any] = asyncio.Queue(MAX_WAITING)
        self._missed = 0

    def put(self, message: object) -> None:
        """Queue a message, or count it as missed if the queue is full. Never blocks."""
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self._missed += 1

    def __aiter__(self) -> Self:
        """Return the subscription itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next message. Other subscribers share it: do not modify it.

        Raises SlowSubscriberError after a message was missed.
        """
        if self._missed:
            raise SlowSubscriberError(f"{self._missed} messages missed")
        return await self._waiting.get()


class Bus(ABC):
    """The base class of all backends, with the subscribers in this worker."""

    def __init__(self) -> None:
        """Create a bus without subscribers."""
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)

    async def publish(self, channel: str, message: object) -> None:
        """Send a message to all subscribers of a channel, including those in this worker.

        Raises ValueError if the channel's name is invalid or the message is too large, and
        TypeError if the message cannot be serialized as JSON.
        """
        if not _CHANNEL.fullmatch(channel):
            raise ValueError(f"{channel!r} is no name of a channel")
        data = orjson.dumps(message)
        if len(data) > MAX_SIZE:
            raise ValueError(f"a message of {len(data)} bytes is larger than {MAX_SIZE}")
        await self._send(channel, data)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Subscription]:
        """Subscribe to a channel until the context ends."""
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
        """Pass the message to _deliver of every worker, including this one."""

    @abstractmethod
    async def open(self) -> None:
        """Connect to the other workers. Raises OSError if that fails."""

    @abstractmethod
    async def check(self) -> None:
        """Recover from errors since the last check. Raises OSError if that fails."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect from the other workers."""


BUS: Final = web.AppKey("BUS", Bus)
