"""Several workers: bus messages, WebSockets, announcements, and the log in the admin."""

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import aiohttp
from conftest import PASSWORD, SCREENSHOTS, TIMEOUT, Project, Tab, client, free_port, wait_for
from needs import needs
from playwright.sync_api import Browser, Page
from workers import Workers, run, workers

CLIENTS, MESSAGES = 500, 200


class Listener:
    """A WebSocket, and the numbers that it has received."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.numbers: list[int] = []
        self.changed = asyncio.Condition()
        self.closed = asyncio.create_task(self._listen(ws))

    async def _listen(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        async for message in ws:
            async with self.changed:
                self.numbers.append(message.json()["number"])
                self.changed.notify_all()

    async def have(self, count: int) -> None:
        """Wait until ``count`` numbers have arrived."""
        async with self.changed, asyncio.timeout(TIMEOUT):
            await self.changed.wait_for(lambda: len(self.numbers) >= count)


class Audience:
    """Listeners connected to known workers, and a publisher."""

    def __init__(self, site: Workers) -> None:
        self.site = site
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers={"Origin": site.base}
        )

    async def listeners(self, worker: int, count: int) -> list[Listener]:
        """Open ``count`` WebSockets to a worker."""
        url = f"{self.site.base}/live"
        with self.site.only(worker):
            opened = (self.session.ws_connect(url, protocols=("live.v1",)) for _ in range(count))
            return [Listener(ws) for ws in await asyncio.gather(*opened)]

    async def publish(self, *numbers: int) -> None:
        """Publish the numbers in order, through one worker."""
        async with aiohttp.ClientSession() as session:
            for number in numbers:
                url = f"{self.site.base}/publish?number={number}"
                async with session.post(url) as response:
                    assert response.status == 200


async def received(listeners: Iterable[Listener], *numbers: int) -> None:
    """Wait until each listener has received exactly these numbers.

    Messages arrive in order, so a duplicate is seen when the next number has arrived.
    """
    for each in listeners:
        await each.have(len(numbers))
    assert all(each.numbers == [*numbers] for each in listeners)


def test_every_client_of_every_worker_receives_each_message_once_and_in_order(
    installed: Project, tmp_path: Path
) -> None:
    async def publish_to_many(site: Workers) -> None:
        audience = Audience(site)
        async with audience.session:
            first, second = [
                await audience.listeners(worker, CLIENTS // 2) for worker in site.pids()
            ]
            await audience.publish(*range(MESSAGES))
            await received([*first, *second], *range(MESSAGES))
            await audience.publish(MESSAGES)
            await received([*first, *second], *range(MESSAGES + 1))

    with workers(installed, tmp_path, MAX_WEBSOCKETS=str(CLIENTS)) as site:
        run(publish_to_many(site))


def test_killed_worker_is_replaced_and_the_others_miss_no_message(
    installed: Project, tmp_path: Path
) -> None:
    async def kill_one(site: Workers) -> None:
        audience = Audience(site)
        killed, *others = before = sorted(site.pids())
        async with audience.session:
            cut = await audience.listeners(killed, 20)
            survivors = [each for pid in others for each in await audience.listeners(pid, 20)]
            await audience.publish(1)
            await received([*cut, *survivors], 1)
            os.kill(killed, signal.SIGKILL)
            async with asyncio.timeout(TIMEOUT):
                await asyncio.gather(*(each.closed for each in cut))
            await audience.publish(2)  # possibly before the worker is replaced
            await received(survivors, 1, 2)
            await asyncio.to_thread(site.wait_until_replaced, {killed}, set(before))
            (newcomer,) = site.pids() - set(before)
            assert site.pids() == {newcomer, *others}
            assert len(list(site.bus.iterdir())) == 3  # the killed worker's socket was removed
            newly = await audience.listeners(newcomer, 20)
            for number in (3, 4):
                await audience.publish(number)
            await received(survivors, 1, 2, 3, 4)
            await received(newly, 3, 4)
            assert not any(each.closed.done() for each in survivors)

    with workers(installed, tmp_path, WEB_CONCURRENCY="3") as site:
        run(kill_one(site))


def shows(page: Page, selector: str, text: str) -> None:
    """Wait until the element contains the text."""
    page.locator(selector).filter(has_text=text).wait_for()


def visit_each_worker(site: Workers, path: str) -> None:
    """Send a request to each worker; the path ends with the worker's process id."""
    for worker in site.pids():
        with site.only(worker), client() as http:
            assert http.get(f"{site.base}{path}{worker}").status_code == 200


@needs("browser")
def test_log_tail_log_level_and_announcement_reach_all_workers_and_pages(
    installed: Project, account: str, browser: Browser, tab: Tab, tmp_path: Path
) -> None:
    variables = {"ADMIN_USERS": account, "DRAIN_TIMEOUT": "0.5", "PORT": str(free_port())}
    context = browser.new_context()
    visitor, admin = Tab(context.new_page()), tab
    with workers(installed, tmp_path, **variables) as site:
        visitor.page.goto(f"{site.base}/about")
        shows(visitor.page, "#live", "Live")
        page = admin.page
        page.goto(f"{site.base}/admin/logs/")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        shows(page, "#state", "Live")
        visit_each_worker(site, "/about?")
        for worker in site.pids():
            shows(page, "#records", f"path=/about?{worker} ")
        pids = {row.split("\t")[1] for row in page.locator("#records tr").all_inner_texts()}
        assert pids == {str(worker) for worker in site.pids()}
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "logs.png")

        page.get_by_label("Text").fill("?WANTED")
        page.get_by_label("Text").press("Enter")
        shows(page, "#state", "Live")
        for path in ("/about?other", "/about?wanted"):
            visitor.page.goto(site.base + path)
        shows(page, "#records", "path=/about?wanted")
        assert page.locator("#records tr").count() == 1

        page.get_by_label("Level").nth(1).select_option("ERROR")
        page.get_by_label("Minutes").fill("60")
        page.get_by_role("button", name="Switch").click()
        page.get_by_text("ERROR, by ada, until").wait_for()
        wait_for(
            lambda: site.server.output().count("log level is ERROR") == 2, "both workers to switch"
        )
        visit_each_worker(site, "/about?unseen-")
        assert "/about?unseen" not in site.server.output()

        page.goto(f"{site.base}/admin/")
        shows(visitor.page, "#live", "Live")
        page.get_by_label("What all open pages show at once").fill("<b>We close at 6</b>")
        page.get_by_role("button", name="Announce").click()
        shows(visitor.page, "#announcement", "<b>We close at 6</b>")
        shows(page, "#live", "Live")
        site.server.stop(signal.SIGTERM)
    shows(visitor.page, "#live", "Offline, trying again")
    with workers(installed, tmp_path, **variables):
        shows(visitor.page, "#live", "Live")
    context.close()
    for wrong in (*visitor.wrong, *admin.wrong):
        assert "ERR_CONNECTION_REFUSED" in wrong  # while the server was stopped
