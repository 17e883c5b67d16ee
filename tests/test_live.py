"""What reaches all workers, and all who look: the bus, WebSockets, announcements, logs."""

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import pytest
from conftest import Project, wait_for
from workers import Workers, workers

CLIENTS, MESSAGES = 500, 200


class Listener:
    """A WebSocket, and the numbers that came over it."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.numbers: list[int] = []
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for message in self.ws:
            self.numbers.append(message.json()["number"])


class Audience:
    """Many listeners, and somebody who publishes."""

    def __init__(self, site: Workers) -> None:
        self.base = f"http://127.0.0.1:{site.port}"
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers={"Origin": self.base}
        )

    async def listeners(self, count: int) -> list[Listener]:
        """Open so many WebSockets."""
        url = f"{self.base}/live"
        opened = (self.session.ws_connect(url, protocols=("live.v1",)) for _ in range(count))
        return [Listener(ws) for ws in await asyncio.gather(*opened)]

    async def publish(self, *numbers: int) -> None:
        """Publish, one after the other; without a pause over the same connection."""
        for number in numbers:
            async with self.session.post(f"{self.base}/publish?number={number}") as response:
                assert response.status == 200


async def got(listeners: Iterable[Listener], numbers: list[int]) -> None:
    """Return once each has got just these."""
    async with asyncio.timeout(60):
        while any(len(each.numbers) < len(numbers) for each in listeners):
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    assert all(each.numbers == numbers for each in listeners)


def test_everybody_gets_everything_once_and_in_order(installed: Project, tmp_path: Path) -> None:
    async def run(site: Workers) -> None:
        audience = Audience(site)
        async with audience.session:
            listeners = await audience.listeners(CLIENTS)
            for pid in site.pids():  # both workers have their share
                assert len(list(Path(f"/proc/{pid}/fd").iterdir())) > CLIENTS // 10
            numbers = list(range(MESSAGES))
            await audience.publish(*numbers)
            await got(listeners, numbers)

    with workers(installed, tmp_path, MAX_WEBSOCKETS=str(CLIENTS)) as site:
        asyncio.run(run(site))


def test_a_killed_worker_is_not_missed(installed: Project, tmp_path: Path) -> None:
    async def run(site: Workers) -> None:
        audience = Audience(site)
        before = site.pids()
        async with audience.session:
            listeners = await audience.listeners(60)
            await audience.publish(1)
            await got(listeners, [1])
            os.kill(min(before), signal.SIGKILL)
            await asyncio.sleep(0.2)
            survivors = [each for each in listeners if not each.task.done()]
            assert 0 < len(survivors) < 60
            await audience.publish(2)  # by one of the other two
            await got(survivors, [1, 2])
            await asyncio.to_thread(site.wait_for_others, before)
            assert len(list(site.bus.iterdir())) == 3  # and nothing is left of the dead one
            newcomers = await audience.listeners(60)
            await audience.publish(3)
            await got(survivors, [1, 2, 3])
            await got(newcomers, [3])

    with workers(installed, tmp_path, count=3, MAX_WEBSOCKETS="200") as site:
        asyncio.run(run(site))
