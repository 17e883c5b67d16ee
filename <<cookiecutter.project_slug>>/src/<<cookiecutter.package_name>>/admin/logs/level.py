"""The switch of the log level: one message temporarily changes the level of all workers."""

import asyncio
import logging
import time
from dataclasses import asdict, dataclass
from typing import Final

from aiohttp import web

from ...live import BUS
from ...logs import set_level

logger = logging.getLogger(__name__)

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
CHANNEL: Final = "logs:level"
"""The channel of orders, and of null, with which a new worker requests the order in force."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order to log at a level; ``given`` and ``until`` are in seconds since 1970."""

    level: str
    given: float
    until: float
    by: str


class Switch:
    """The log level of this worker."""

    def __init__(self, usual: str) -> None:
        """Create the switch from LOG_LEVEL, the level that it returns to."""
        self._usual = usual
        self._order: Order | None = None
        self._return: asyncio.TimerHandle | None = None

    @property
    def order(self) -> Order | None:
        """The order in force, or None."""
        return self._order

    @property
    def level(self) -> str:
        """The current log level of this worker."""
        return self._order.level if self._order else self._usual

    def obey(self, order: Order) -> None:
        """Apply an order, unless it has expired or a later one was applied."""
        left = order.until - time.time()
        if (self._order and self._order.given >= order.given) or left <= 0:
            return
        self._forget()
        self._order = order
        self._return = asyncio.get_running_loop().call_later(left, self.go_back)
        # Before the change: a higher level would suppress this record.
        logger.warning("the log level is %s for %.0f s, by %s", order.level, left, order.by)
        set_level(order.level)

    def go_back(self) -> None:
        """Return to the usual level."""
        if self._order:
            self._forget()
            set_level(self._usual)
            logger.warning("the log level is %s again", self._usual)

    def _forget(self) -> None:
        if self._return:
            self._return.cancel()
        self._order = self._return = None


SWITCH: Final = web.AppKey("SWITCH", Switch)


async def follow(app: web.Application) -> None:
    """Apply the orders that are received, and send the one in force to new workers."""
    switch = app[SWITCH]
    try:
        async with app[BUS].subscribe(CHANNEL) as messages:
            await app[BUS].publish(CHANNEL, None)
            async for message in messages:
                if message is not None:
                    switch.obey(Order(**message))
                elif switch.order:
                    await app[BUS].publish(CHANNEL, asdict(switch.order))
    finally:
        switch.go_back()


async def give(app: web.Application, level: str, seconds: float, by: str) -> None:
    """Set the log level of all workers for some seconds."""
    now = time.time()
    await app[BUS].publish(CHANNEL, asdict(Order(level, now, now + seconds, by)))
