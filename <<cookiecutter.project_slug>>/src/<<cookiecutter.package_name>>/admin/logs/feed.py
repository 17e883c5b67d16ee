"""Each worker's part of the live log: it publishes its log records while somebody is watching.

Viewers announce themselves on the bus periodically, so no unsubscribe message is needed.
"""

import os
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import orjson
import structlog
from aiohttp import web
from structlog.typing import EventDict

from ...live import BUS
from ...live.bus import MAX_SIZE, Subscription
from ...logs import TAP, to_json, visible

RECORDS: Final = "logs"
"""The channel of the records: ``{"worker": process id, "dropped": count, "records": [...]}``."""
WATCHING: Final = "logs:watching"
"""The channel on which viewers announce themselves."""

INTERVAL: Final = 0.2
"""Seconds between two messages of a worker."""
RENEWAL: Final = 1.0
"""Seconds between two announcements of viewers."""
WATCH: Final = 5.0
"""Seconds for which a worker publishes records after an announcement of viewers."""
MAX_RECORDS: Final = 1000
"""Maximum number of records per worker and interval; the oldest are dropped."""
MAX_TEXT: Final = 8 * 1024
"""Maximum number of characters that are shown of a value, such as a traceback."""


def _short(text: str) -> str:
    """Return a text with a limited length, and with invisible characters made visible."""
    shown = visible(text, lines=True)
    return f"{shown[:MAX_TEXT]} …" if len(shown) > MAX_TEXT else shown


def _value(value: object) -> object:
    if isinstance(value, str):
        return _short(value)
    text = to_json({"": value}).decode()[4:-1]
    return text if "\\u" in text else value  # otherwise the page would decode the escapes


def _shown(event: EventDict) -> bytes:
    """Return the record as JSON that is short enough for the bus."""
    if "exc_info" in event:  # in development the console formats it
        event = structlog.processors.format_exc_info(None, "", event)
    short = {_short(key): _value(value) for key, value in event.items()}
    data = to_json(short)
    if len(data) < MAX_SIZE // 2:
        return data
    keys = ("timestamp", "level", "logger", "request_id")
    kept = {key: short[key] for key in keys if key in short}
    return to_json(kept | {"event": f"a record of {len(data)} bytes"})


class Feed:
    """The records of this worker that are not published yet."""

    def __init__(self) -> None:
        """Create a feed without viewers."""
        self.viewers = 0
        self._said = self._until = float("-inf")
        self._waiting: deque[EventDict] = deque(maxlen=MAX_RECORDS)
        self._dropped = 0

    def has_to_say(self) -> bool:
        """Return True if this worker has viewers and has not announced them for RENEWAL seconds."""
        due = self.viewers > 0 and time.monotonic() - self._said >= RENEWAL
        if due:
            self._said = time.monotonic()
        return due

    def listen(self) -> None:
        """Collect records for the next WATCH seconds."""
        self._until = time.monotonic() + WATCH
        TAP.listeners.add(self._note)

    def stop(self) -> None:
        """Stop collecting records."""
        TAP.listeners.discard(self._note)
        self._waiting.clear()

    def _note(self, event: EventDict) -> None:
        self._dropped += len(self._waiting) == MAX_RECORDS
        self._waiting.append(event)

    def messages(self) -> Iterator[dict[str, object]]:
        """Yield the collected records, in messages of a size that the bus accepts."""
        if time.monotonic() > self._until:
            self.stop()
        records: list[orjson.Fragment] = []
        size = 0
        for _ in range(len(self._waiting)):
            data = _shown(self._waiting.popleft())
            if size + len(data) > MAX_SIZE // 2:
                yield self._message(records)
                records, size = [], 0
            records.append(orjson.Fragment(data))
            size += len(data) + 1
        if records:
            yield self._message(records)

    def _message(self, records: list[orjson.Fragment]) -> dict[str, object]:
        dropped, self._dropped = self._dropped, 0
        return {"worker": os.getpid(), "dropped": dropped, "records": records}


FEED: Final = web.AppKey("FEED", Feed)


async def follow(app: web.Application) -> None:
    """Collect records while there are viewers on any worker."""
    try:
        async with app[BUS].subscribe(WATCHING) as messages:
            async for _ in messages:
                app[FEED].listen()
    finally:
        app[FEED].stop()


async def publish(app: web.Application) -> None:
    """Publish the records since the last call, and announce the viewers of this worker."""
    if app[FEED].has_to_say():
        await app[BUS].publish(WATCHING, None)
    for message in app[FEED].messages():
        await app[BUS].publish(RECORDS, message)


@asynccontextmanager
async def watch(app: web.Application) -> AsyncIterator[Subscription]:
    """Make all workers publish their records, and subscribe to the records."""
    app[FEED].viewers += 1
    try:
        async with app[BUS].subscribe(RECORDS) as messages:
            await app[BUS].publish(WATCHING, None)
            yield messages
    finally:
        app[FEED].viewers -= 1
