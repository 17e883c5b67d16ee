"""Count the files that index pages open: no file can be read without opening it."""

import asyncio
import sys

from aiohttp.test_utils import TestClient, TestServer
from my_service.app import create_app
from my_service.web.static import StaticFiles

opened: list[str] = []
calls: list[str] = []


def note(event: str, args: tuple[object, ...]) -> None:
    """Record the name of an opened file (an audit hook; Python calls it for every file)."""
    if event == "open":
        opened.append(str(args[0]))


def versioned_url(self: StaticFiles, filename: str) -> str:
    """Record a call of ``static(...)`` by a page."""
    calls.append(filename)
    return original(self, filename)


original = StaticFiles.versioned_url
StaticFiles.versioned_url = versioned_url


async def main() -> None:
    """Request one page, then a hundred, and print the number of calls and opened files."""
    async with TestClient(TestServer(create_app())) as client:
        for pages in (1, 100):
            opened.clear()
            calls.clear()
            for _ in range(pages):
                async with client.get("/", raise_for_status=True) as response:
                    await response.read()
            print(f"{pages} pages, {len(calls)} calls of static(...): {len(opened)} files opened")


sys.addaudithook(note)
asyncio.run(main())
