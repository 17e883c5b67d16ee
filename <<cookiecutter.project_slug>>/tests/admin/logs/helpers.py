"""Watching the logs, as the page of the admin does."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

# % filter replace("package_name", cookiecutter.package_name)
from package_name.live.sockets import PROTOCOL
from package_name.logs import TAP

from ...helpers import TIMEOUT, Client, until

# % endfilter
PAGE = "/admin/logs/"


def app_of(client: Client) -> web.Application:
    """Return the application that the client talks to."""
    assert client.app
    return client.app


def tail(client: Client, **query: str) -> Any:
    """Open the WebSocket of the records that match the query."""
    return client.ws_connect(f"{PAGE}tail", params=query, protocols=(PROTOCOL,))


async def listening() -> None:
    """Wait until the worker has heard that the logs are watched."""
    await until(lambda: TAP.listeners)


async def read(ws: Any, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the records that are received, up to the last one, each with its worker."""
    records: list[dict[str, Any]] = []
    async with asyncio.timeout(TIMEOUT):
        while not any(map(last, records)):
            message = await ws.receive_json()
            assert message["type"] == "records"
            assert message["dropped"] == 0
            records += [record | {"worker": message["worker"]} for record in message["records"]]
    return records


def has_event(event: str) -> Callable[[dict[str, Any]], bool]:
    """Return a condition for ``read``: that a record has this event."""
    return lambda record: record["event"] == event
