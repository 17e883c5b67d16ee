"""Measure how long messages take to 500 WebSockets; run it with the baked project's Python.

The arguments are a name and a base URL for each server. It prints a line of JSON with the latencies
in milliseconds, by name.
"""

import asyncio
import json
import sys
from time import monotonic

import aiohttp

CLIENTS = 500
MESSAGES = 20
INTERVAL = 0.25
"""Seconds between two messages: each reaches all clients before the next is sent."""
ROUNDS = 4


async def listen(ws: aiohttp.ClientWebSocketResponse, latencies: list[float]) -> None:
    """Record the latency of each message, with the clock that all processes share."""
    for _ in range(MESSAGES):
        message = await ws.receive_json()
        latencies.append((monotonic() - message["sent"]) * 1000)
    await ws.close()


async def measure(base: str) -> list[float]:
    """Return the latencies of all messages to all clients."""
    latencies: list[float] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"Origin": base}) as session:
        connecting = (
            session.ws_connect(f"{base}/live", protocols=("live.v1",)) for _ in range(CLIENTS)
        )
        sockets = await asyncio.gather(*connecting)
        async with asyncio.TaskGroup() as group:
            for ws in sockets:
                group.create_task(listen(ws, latencies))
            for _ in range(MESSAGES):
                await asyncio.sleep(INTERVAL)
                async with session.post(f"{base}/publish") as response:
                    response.raise_for_status()
    return latencies


def main() -> None:
    """Measure each server in turn, round after round."""
    servers = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    found: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, base in servers.items():
            found[name] += asyncio.run(measure(base))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
