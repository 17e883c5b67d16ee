"""Helpers that follow the logs as the admin page does."""

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
    """Return the application behind the client."""
    assert client.app
    return client.app


def tail(client: Client, **query: str) -> Any:
    """Open a WebSocket for the records that match the query."""
    return client.ws_connect(f"{PAGE}tail", params=query, protocols=(PROTOCOL,))


async def listening() -> None:
    """Wait until the worker knows that a client follows the logs."""
    await until(lambda: TAP.listeners)


async def read(ws: Any, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the received records up to the last one, each with its worker."""
    records: list[dict[str, Any]] = []
    async with asyncio.timeout(TIMEOUT):
        while not any(map(last, records)):
            message = await ws.receive_json()
            assert message["type"] == "records"
            assert message["dropped"] == 0
            records += [record | {"worker": message["worker"]} for record in message["records"]]
    return records


def has_event(event: str) -> Callable[[dict[str, Any]], bool]:
    """Return a condition for ``read`` that matches a record with this event."""
    return lambda record: record["event"] == event
