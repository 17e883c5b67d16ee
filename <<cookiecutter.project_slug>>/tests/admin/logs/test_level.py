import asyncio
import io
import logging
import re
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import Any

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin.logs import feed, level
from package_name.live import BUS

from ...helpers import STANDALONE, TIMEOUT, Client, json_lines, running, session, until
from .helpers import PAGE, app_of, read, tail

# % endfilter
AGAIN = "the log level is INFO again"


def events(output: str) -> list[str]:
    """Return the events that the switch has logged, with N for numbers."""
    lines = [line for line in json_lines(output) if line["logger"] == level.__name__]
    return [re.sub(r"\d+", "N", line["event"]) for line in lines]


async def test_order_is_shown_and_ends_with_the_application(admin: Client) -> None:
    async with admin.post(f"{PAGE}level", data={"level": "ERROR", "minutes": "60"}) as response:
        assert response.url.path == PAGE
        assert "ERROR, by ada, until" in await response.text()
    assert logging.root.level == logging.ERROR
    await admin.close()
    assert logging.root.level == logging.INFO


async def test_latest_order_counts_until_its_time_is_over(
    client: Client, output: io.BytesIO, advance: Callable[[float], None]
) -> None:
    app = app_of(client)
    now = time()
    orders = [
        level.Order("DEBUG", now, now + 3600, "ada"),
        level.Order("ERROR", now - 1, now + 3600, "an older one"),
        level.Order("DEBUG", now, now + 3600, "ada"),  # repeated for a new worker
        level.Order("ERROR", now + 1, now - 1, "one that is over"),
        level.Order("WARNING", now + 2, now + 3600, "eve"),
    ]
    for order in orders:
        await app[BUS].publish(level.CHANNEL, asdict(order))
    await until(lambda: app[level.SWITCH].level == "WARNING")
    assert logging.root.level == logging.WARNING
    advance(3600)
    await until(lambda: app[level.SWITCH].order is None)
    assert logging.root.level == logging.INFO
    assert events(output.getvalue().decode()) == [
        "the log level is DEBUG for N s, by ada",
        "the log level is WARNING for N s, by eve",
        AGAIN,
    ]


async def test_every_worker_obeys_orders_and_feeds_the_tail(
    admin: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RENEWAL", 0.1)
    path = tmp_path / "server.sock"

    def is_theirs(record: dict[str, Any]) -> bool:
        return (record["worker"], record["logger"]) == (process.pid, "access")

    def is_switched(record: dict[str, Any]) -> bool:
        return str(record["event"]).endswith("by eve")

    await level.give(app_of(admin), "DEBUG", 3600, "ada")
    with running([*STANDALONE, "--path", str(path)], path, ADMIN_USERS="") as process:
        async with tail(admin) as ws, session(path) as theirs:
            reading = asyncio.create_task(read(ws, is_theirs))
            while not reading.done():  # until it knows that a client follows the logs
                async with theirs.get("/livez") as response:
                    assert response.status == 200
                await asyncio.sleep(0.05)
            assert (await reading)[-1]["path"] == "/livez"
            await level.give(app_of(admin), "WARNING", 3600, "eve")
            workers = set[int]()
            while len(workers) < 2:
                records = await read(ws, is_switched)
                workers |= {record["worker"] for record in records if is_switched(record)}
        process.send_signal(signal.SIGTERM)
        stdout, stderr = await asyncio.to_thread(process.communicate, timeout=TIMEOUT)
    assert (process.returncode, stderr) == (0, "")
    assert events(stdout) == [
        "the log level is DEBUG for N s, by ada",  # set before it started
        "the log level is WARNING for N s, by eve",
        AGAIN,
    ]
