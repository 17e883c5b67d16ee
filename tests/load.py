"""Clients that send one request after another. They never retry, so every failure counts."""

import asyncio
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

from conftest import TIMEOUT, wait_for

BODY = b"x" * 3000
PAUSE = 0.01
"""Maximum pause between two requests, in seconds. It leaves the servers time to start."""
MAX_IDLE = 0.3
"""Maximum pause of some of the clients, in seconds; much shorter than DRAIN_TIMEOUT."""


class Load:
    """Results of the clients."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        """Number of responses per kind of client, such as ``POST kept :8080``."""
        self.failures: list[str] = []
        self.stopped = threading.Event()

    async def _request(self, port: int, method: str, path: str, kept: bool) -> None:
        """Send requests over one connection for as long as the server keeps it open."""
        body = BODY if method == "POST" else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        head += "\r\n" if kept else "Connection: close\r\n\r\n"
        kind = f"{method} {'kept' if kept else 'fresh'} :{port}"
        while not self.stopped.is_set():
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                closes = False
                while not closes and not self.stopped.is_set():
                    writer.write(head.encode() + body)
                    async with asyncio.timeout(TIMEOUT):
                        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                        length = re.search(r"content-length: (\d+)", answer)
                        if not answer.startswith("http/1.1 200") or length is None:
                            raise AssertionError(answer)
                        content = await reader.readexactly(int(length[1]))
                    if body and content != body:
                        raise AssertionError(f"{answer}{content[:200]!r}")
                    self.answers[kind] += 1
                    closes = "connection: close" in answer
                    longest = MAX_IDLE if random.random() < 0.05 else PAUSE
                    await asyncio.sleep(longest * random.random())

    async def _client(self, port: int, method: str, path: str, kept: bool) -> None:
        while not self.stopped.is_set():
            try:
                await self._request(port, method, path, kept)
            except Exception as error:
                self.failures.append(f"{method} {'kept' if kept else 'fresh'} :{port} {error!r}")
                await asyncio.sleep(0.1)  # keeps the list short

    async def run(self, ports: list[int], get: str, post: str) -> None:
        """Send requests to each port, with clients of each kind."""
        await asyncio.gather(
            *(
                self._client(port, method, path, kept)
                for port in ports
                for method, path in (("GET", get), ("POST", post))
                for kept in (True, True, True, False)
            )
        )

    def wait_for_all(self, kinds: int, count: int) -> None:
        """Wait until each kind of client has received ``count`` more responses."""
        before = self.answers.copy()
        wait_for(
            lambda: (
                len(self.answers) == kinds
                and all(self.answers[kind] >= before[kind] + count for kind in [*self.answers])
            ),
            f"{count} more answers to each kind of client",
        )


@contextmanager
def load(ports: list[int], get: str, post: str) -> Iterator[Load]:
    """Send requests to the ports from a thread while the block runs."""
    clients = Load()
    thread = threading.Thread(target=lambda: asyncio.run(clients.run(ports, get, post)))
    thread.start()
    try:
        yield clients
    finally:
        clients.stopped.set()
        thread.join()
