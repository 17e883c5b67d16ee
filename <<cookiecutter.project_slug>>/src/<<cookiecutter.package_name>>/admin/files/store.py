"""Where uploaded files are kept: a folder for each, which appears and vanishes as a whole.

    <UPLOAD_FOLDER>/files/<id>/content, record.json     what is kept
    <UPLOAD_FOLDER>/incoming/<id>/                      uploads under way, and what is being deleted

Names from outside never become paths. Several workers, and hosts with a common file system, may
share the folder. Everything here blocks: call it in a thread.
"""

import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final

logger = logging.getLogger(__name__)

ID: Final = re.compile(r"[0-9a-f]{32}")
"""Of a file: when its upload began, in ns since 1970, and 64 random bits; so they sort by age."""

CONTENT: Final = "content"
RECORD: Final = "record.json"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a file."""

    id: str
    name: str
    size: int
    """In bytes."""
    account: str
    """Who uploaded it."""
    uploaded: str
    """When, in ISO 8601 and UTC."""


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a folder if nobody else does; whoever holds it lets go when its process dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """Have the names in a folder written to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove the folder of a file, with not one file descriptor: there may be none left."""
    try:
        for name in (CONTENT, RECORD):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("%s is left behind until the next start: %s", folder, error)


class Upload:
    """An upload under way. Until ``keep`` has returned there is no file.

    The methods may be called in several threads: those of a handler that was cancelled go on.
    """

    def __init__(self, store: "Store") -> None:
        """Prepare one; nothing is on the disk yet."""
        self._store = store
        self._turn = Lock()
        self._open = ExitStack()
        self._closed = False
        self.size = 0
        """In bytes, so far."""

    def open(self) -> None:
        """Begin. Raises OSError when the disk is full."""
        with self._turn:
            if self._closed:
                return
            self._claim()
            self._file = self._open.enter_context((self._folder / CONTENT).open("xb", 1024**2))

    def _claim(self) -> None:
        """Make the folder of this upload, and hold it."""
        while True:
            self.id = f"{time.time_ns():016x}{secrets.token_hex(8)}"
            self._folder = self._store.incoming / self.id
            self._folder.mkdir(mode=0o750)
            self._open.callback(_remove, self._folder)
            # A worker that starts just now may sweep it away before it is held.
            with suppress(FileNotFoundError):
                lock = os.open(self._folder, os.O_RDONLY)
                self._open.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._folder.exists():
                    return

    def write(self, chunk: bytes) -> None:
        """Append to the file. Raises OSError when the disk is full."""
        with self._turn:
            self._file.write(chunk)
            self.size += len(chunk)

    def keep(self, name: str, account: str) -> Record:
        """Finish: from here on the file is in the list, and survives a loss of power.

        Raises OSError when the disk is full.
        """
        with self._turn, self._open:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record = Record(self.id, name, self.size, account, now)
            with (self._folder / RECORD).open("x") as file:
                json.dump(asdict(record), file)
                file.flush()
                os.fsync(file.fileno())
            self._file.flush()
            os.fsync(self._file.fileno())
            _sync(self._folder)
            self._folder.rename(self._store.files / self.id)
            _sync(self._store.files)
        return record

    def close(self) -> None:
        """Give it up, and leave nothing behind."""
        with self._turn, suppress(OSError):  # that of a full disk, which is known
            self._closed = True
            self._open.close()


class Store:
    """The files of a folder."""

    def __init__(self, folder: Path) -> None:
        """Take UPLOAD_FOLDER, which need not exist yet."""
        self.files = folder.absolute() / "files"
        self.incoming = folder.absolute() / "incoming"

    def open(self) -> None:
        """Make the folders, and remove what killed processes have left behind.

        Raises OSError when the folder cannot be written to.
        """
        for folder in (self.files, self.incoming):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        for left in filter(Path.is_dir, self.incoming.iterdir()):
            with suppress(FileNotFoundError), _locked(left) as ours:
                if ours:
                    shutil.rmtree(left)
                    logger.info("removed an upload that was cut off: %s", left.name)

    def page(self, size: int, before: str = "") -> list[Record]:
        """Return up to ``size`` files, the newest first; those older than ``before``.

        Raises OSError if one cannot be read.
        """
        records: list[Record] = []
        for folder in sorted(self.files.iterdir(), reverse=True):
            if not before or folder.name < before:
                with suppress(LookupError):
                    records.append(self.find(folder.name))
            if len(records) == size:
                break
        return records

    def content(self, file_id: str) -> Path:
        """Return where a file is."""
        return self.files / file_id / CONTENT

    def find(self, file_id: str) -> Record:
        """Return what is known of a file.

        Raises LookupError if there is no such file, or its record is broken; OSError if it cannot
        be read.
        """
        try:
            if not ID.fullmatch(file_id):
                raise ValueError
            return Record(**json.loads((self.files / file_id / RECORD).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            raise LookupError(file_id) from None
        except (ValueError, TypeError) as error:
            logger.warning("no file: %s: %r", file_id, error)
            raise LookupError(file_id) from None

    def delete(self, file_id: str) -> None:
        """Remove a file, if it is there."""
        gone = self.incoming / file_id
        with suppress(FileNotFoundError):
            (self.files / file_id).rename(gone)
            _remove(gone)
