"""The bus of one host: each worker has a Unix datagram socket in a common folder.

The folder lists the workers. Datagrams keep their boundaries and their order, and are not lost
while buffers have room; a sender notices immediately if a receiver has died (unix(7)).
"""

import asyncio
import logging
import os
import re
import secrets
import socket
import stat
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .bus import MAX_SIZE, Bus

logger = logging.getLogger(__name__)

MAX_BEHIND: Final = 8 * 1024**2
"""Maximum size of the queue for a worker that does not read, in bytes; more is dropped."""
COMPLAIN_EVERY: Final = 10.0
"""Minimum seconds between two warnings about dropped messages or failures."""
_AT_ONCE: Final = 32
"""Maximum number of datagrams that are read before other tasks run."""
_NAME: Final = re.compile(r"\d+-[\da-f]{8}\.sock", re.ASCII)
_GONE: Final = (ConnectionRefusedError, ConnectionResetError, FileNotFoundError)


def default_folder() -> Path:
    """Return a folder for this service alone, in RUNTIME_DIRECTORY or in the working directory."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", "run/sockets"), "bus")


def private_folder(folder: Path) -> None:
    """Create the folder if needed. Raises PermissionError if other users may access it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone, with mode 700")


class _Sibling:
    """A connection to another worker."""

    def __init__(self, path: Path) -> None:
        """Connect. Raises OSError, one of _GONE if nothing listens."""
        self._path = path
        self._waiting: deque[bytes] = deque()
        self._behind = 0
        self._dropped = self._told = 0
        self._complained = float("-inf")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def send(self, frame: bytes) -> None:
        """Send a frame, or queue it until the sibling reads; drop it if the queue is full.

        Raises one of _GONE if the sibling has died.
        """
        if not self._waiting:
            try:
                self._socket.send(frame)
                return
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._socket.fileno(), self._go_on)
        if self._behind + len(frame) > MAX_BEHIND:
            self._drop()
            return
        self._waiting.append(frame)
        self._behind += len(frame)

    def _go_on(self) -> None:
        """Send the queued frames while the sibling reads."""
        try:
            while self._waiting:
                self._socket.send(self._waiting[0])
                self._behind -= len(self._waiting.popleft())
        except BlockingIOError:
            return
        except OSError as error:
            self._dropped += len(self._waiting)
            self._waiting.clear()
            self._behind = 0
            if isinstance(error, _GONE):  # without its socket, _meet() removes it
                self._path.unlink(missing_ok=True)
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        self._tell()

    def _drop(self) -> None:
        self._dropped += 1
        if time.monotonic() - self._complained > COMPLAIN_EVERY:
            self._complained = time.monotonic()
            self._tell()

    def _tell(self) -> None:
        if self._dropped > self._told:
            self._told = self._dropped
            logger.warning("worker %s: %d messages dropped so far", self._path.stem, self._dropped)

    def close(self) -> None:
        """Close the connection, and discard the queued frames."""
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        self._socket.close()
        self._tell()


class LocalBus(Bus):
    """A bus of the workers that share a folder."""

    def __init__(self, folder: Path) -> None:
        """Create a bus for the folder, which is created when the bus opens."""
        super().__init__()
        self._folder = folder
        self._siblings: dict[str, _Sibling] = {}
        self._complained = float("-inf")

    async def open(self) -> None:
        """Create this worker's socket, connect to the others and remove sockets of dead workers."""
        self._join()
        self._meet()

    def _join(self) -> None:
        private_folder(self._folder)
        self._own = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        joined = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            joined.bind(str(self._own))
        except OSError:
            joined.close()
            raise
        self._socket = joined
        asyncio.get_running_loop().add_reader(joined.fileno(), self._receive)

    def _leave(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    async def check(self) -> None:
        """Create the socket again if it or its folder was deleted, as cleaners of /tmp do."""
        if not self._own.is_socket():
            logger.warning("%s was deleted", self._own)
            self._leave()
            self._join()

    async def close(self) -> None:
        """Remove this worker's socket, and close all connections."""
        self._leave()
        self._own.unlink(missing_ok=True)
        for sibling in self._siblings.values():
            sibling.close()
        self._siblings.clear()

    async def _send(self, channel: str, data: bytes) -> None:
        self._deliver(channel, data)
        self._meet()
        frame = b"%s\n%s" % (channel.encode(), data)
        for name, sibling in list(self._siblings.items()):
            with self._unless_gone(name):
                sibling.send(frame)
        await asyncio.sleep(0)  # let subscribers read between many messages

    def _meet(self) -> None:
        """Connect to new workers, and close the connections to workers that have left."""
        try:
            with os.scandir(self._folder) as entries:
                names = {entry.name for entry in entries if _NAME.fullmatch(entry.name)}
        except FileNotFoundError:  # check() repairs it; known workers are used until then
            return
        except OSError as error:
            self._complain("the other workers cannot be listed: %s", error)
            return
        names.discard(self._own.name)
        for name in self._siblings.keys() - names:
            self._siblings.pop(name).close()
        for name in names - self._siblings.keys():
            with self._unless_gone(name):
                self._siblings[name] = _Sibling(self._folder / name)

    @contextmanager
    def _unless_gone(self, name: str) -> Iterator[None]:
        """Run the block for a sibling; if the sibling has died, close it and delete its socket."""
        try:
            yield
        except _GONE:
            if sibling := self._siblings.pop(name, None):
                sibling.close()
            with suppress(OSError):
                (self._folder / name).unlink()
        except OSError as error:
            self._complain("worker %s cannot be reached: %s", name, error)

    def _complain(self, message: str, *args: object) -> None:
        if time.monotonic() - self._complained > COMPLAIN_EVERY:
            self._complained = time.monotonic()
            logger.warning(message, *args)

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                channel, _, data = self._socket.recv(2 * MAX_SIZE).partition(b"\n")
                self._deliver(channel.decode(), data)
