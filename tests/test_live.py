"""What reaches all workers, and all who look: the bus, WebSockets, announcements, logs."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import aiohttp
from conftest import (
    PASSWORD,
    PRODUCTION,
    SCREENSHOTS,
    Project,
    Server,
    Tab,
    answers_at,
    free_port,
    gunicorn,
    lines,
    started,
)
from playwright.sync_api import Browser, Page
from workers import Workers, run, workers

CLIENTS, MESSAGES = 500, 200

T = TypeVar("T")


class Listener:
    """A WebSocket, and the numbers that came over it."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.numbers: list[int] = []
        self.changed = asyncio.Condition()
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for message in self.ws:
            async with self.changed:
                self.numbers.append(message.json()["number"])
                self.changed.notify_all()

    async def have(self, count: int) -> None:
        """Return once so many have come."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.numbers) >= count)


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


def seconds(function: Callable[[T], object], argument: T) -> float:
    """Call the function, and return how long that took."""
    began = time.monotonic()
    function(argument)
    return time.monotonic() - began


def open_files(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def got(listeners: Iterable[Listener], numbers: list[int]) -> None:
    """Return once each has got just these."""
    for each in listeners:
        await asyncio.wait_for(each.have(len(numbers)), 60)
    await asyncio.sleep(0.2)  # for what should not come
    assert all(each.numbers == numbers for each in listeners)


def test_everybody_gets_everything_once_and_in_order(installed: Project, tmp_path: Path) -> None:
    async def ask(site: Workers) -> None:
        audience = Audience(site)
        async with audience.session:
            listeners = await audience.listeners(CLIENTS)
            assert min(map(open_files, site.pids())) > CLIENTS // 10  # both have their share
            numbers = list(range(MESSAGES))
            await audience.publish(*numbers)
            await got(listeners, numbers)

    with workers(installed, tmp_path, MAX_WEBSOCKETS=str(CLIENTS)) as site:
        run(ask(site))


def test_a_killed_worker_is_not_missed(installed: Project, tmp_path: Path) -> None:
    async def ask(site: Workers) -> None:
        audience = Audience(site)
        before = site.pids()
        async with audience.session:
            listeners = await audience.listeners(60)
            await audience.publish(1)
            await got(listeners, [1])
            os.kill(min(before), signal.SIGKILL)
            joined = asyncio.create_task(asyncio.to_thread(seconds, site.wait_for_others, before))
            await asyncio.wait([each.task for each in listeners], timeout=1)
            survivors = [each for each in listeners if not each.task.done()]
            assert 0 < len(survivors) < 60
            await audience.publish(2)  # by one of the other two
            await got(survivors, [1, 2])
            assert await joined < site.started_in
            assert len(list(site.bus.iterdir())) == 3  # and nothing is left of the dead one
            newcomers = await audience.listeners(60)
            await audience.publish(3)
            await got(survivors, [1, 2, 3])
            await got(newcomers, [3])

    with workers(installed, tmp_path, count=3, MAX_WEBSOCKETS="200") as site:
        run(ask(site))


def reads(page: Page, selector: str, text: str) -> None:
    """Return once the element reads so."""
    page.locator(selector).filter(has_text=text).wait_for()


def test_an_announcement_and_the_logs_in_a_browser(
    installed: Project, account: str, browser: Browser, tab: Tab, tmp_path: Path
) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = gunicorn(installed, "--bind", f"127.0.0.1:{port}", "--workers", "2")
    variables = PRODUCTION | {"ADMIN_USERS": account, "DRAIN_TIMEOUT": "0.5"}
    context = browser.new_context()
    visitor, admin = Tab(context.new_page()), tab

    def server(log: str) -> AbstractContextManager[Server]:
        return started(
            command, tmp_path / log, answers_at(f"{base}/livez"), installed.path, **variables
        )

    with server("first") as first:
        visitor.page.goto(f"{base}/about")
        reads(visitor.page, "#live", "Live")
        page = admin.page
        page.goto(f"{base}/admin/logs/")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        reads(page, "#state", "Live")
        for number in range(20):  # of both workers
            visitor.page.goto(f"{base}/about?{number}")
        for number in range(20):
            reads(page, "#records", f"path=/about?{number} ")
        pids = {row.split("\t")[1] for row in page.locator("#records tr").all_inner_texts()}
        assert len(pids) == 2
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "logs.png")

        page.get_by_label("Text").fill("?WANTED")
        page.get_by_label("Text").press("Enter")
        reads(page, "#state", "Live")
        for path in ("/about?other", "/about?wanted"):
            visitor.page.goto(base + path)
        reads(page, "#records", "path=/about?wanted")
        assert page.locator("#records tr").count() == 1

        page.get_by_label("Level").nth(1).select_option("ERROR")
        page.get_by_label("Minutes").fill("1")
        page.get_by_role("button", name="Switch").click()
        page.get_by_text("ERROR, by ada, until").wait_for()
        for _ in range(20):
            visitor.page.goto(f"{base}/about?unseen")
        switched = [line for line in lines(first) if "log level is ERROR" in str(line["event"])]
        assert len(switched) == 2
        assert not [line for line in lines(first) if line.get("path") == "/about?unseen"]

        page.goto(f"{base}/admin/")
        reads(visitor.page, "#live", "Live")
        page.get_by_label("What all open pages show at once").fill("<b>We close at 6</b>")
        page.get_by_role("button", name="Announce").click()
        reads(visitor.page, "#announcement", "<b>We close at 6</b>")
        reads(page, "#live", "Live")
        first.stop(signal.SIGTERM)
    reads(visitor.page, "#live", "Offline, trying again")
    with server("second"):
        reads(visitor.page, "#live", "Live")
    context.close()
    for wrong in (*visitor.wrong, *admin.wrong):
        assert "ERR_CONNECTION_REFUSED" in wrong  # while it was stopped
