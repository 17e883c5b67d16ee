"""Clients that ask without a pause, and forgive nothing: no request is ever repeated."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

BODY = b"x" * 3000
TIMEOUT = 30.0
"""Seconds that an answer may take; long enough for both workers to be replaced."""


class Load:
    """What the clients got."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        """By kind of client, such as ``POST kept :8080``."""
        self.failures: list[str] = []
        self.stopped = threading.Event()

    async def _ask(self, port: int, method: str, path: str, kept: bool) -> None:
        """Ask, on one connection for as long as the server keeps it, until it is over."""
        body = BODY if method == "POST" else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        head += "\r\n" if kept else "Connection: close\r\n\r\n"
        kind = f"{method} {'kept' if kept else 'fresh'} :{port}"
        while not self.stopped.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                closes = False
                while not closes and not self.stopped.is_set():
                    writer.write(head.encode() + body)
                    async with asyncio.timeout(TIMEOUT):
                        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
                        echoed = await reader.readexactly(length)
                    if not answer.startswith("http/1.1 200") or (body and echoed != body):
                        raise AssertionError(f"{answer}{echoed[:200]!r}")
                    self.answers[kind] += 1
                    closes = "connection: close" in answer
                    if random.random() < 0.05:  # now and then a connection idles for a while
                        await asyncio.sleep(random.random())

    async def _client(self, port: int, method: str, path: str, kept: bool) -> None:
        while not self.stopped.is_set():
            try:
                await self._ask(port, method, path, kept)
            except Exception as error:
                self.failures.append(f"{method} {'kept' if kept else 'fresh'} :{port} {error!r}")
                await asyncio.sleep(0.1)

    async def run(self, ports: list[int], get: str, post: str) -> None:
        """Ask at each port with clients of each kind."""
        await asyncio.gather(
            *(
                self._client(port, method, path, kept)
                for port in ports
                for method, path in (("GET", get), ("POST", post))
                for kept in (True, True, True, False)
            )
        )


@contextmanager
def load(ports: list[int], get: str, post: str) -> Iterator[Load]:
    """Ask at the ports, in a thread, while something else happens."""
    clients = Load()
    thread = threading.Thread(target=lambda: asyncio.run(clients.run(ports, get, post)))
    thread.start()
    try:
        yield clients
    finally:
        clients.stopped.set()
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "a request was never answered"
