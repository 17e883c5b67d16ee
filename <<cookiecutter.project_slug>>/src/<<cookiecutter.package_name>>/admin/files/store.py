"""Storage of uploaded files: each has its own folder, which is created and deleted atomically.

    <UPLOAD_FOLDER>/files/<id>/content, record.json     stored files
    <UPLOAD_FOLDER>/incoming/<id>/                      uploads and deletions in progress

Names from clients are never used as paths. Several workers, and hosts with a common file system,
may share the folder. All functions block: call them in a thread.
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
"""Id of a file: the start of the upload in ns since 1970 and 64 random bits, so ids sort by age."""

CONTENT: Final = "content"
RECORD: Final = "record.json"


@dataclass(frozen=True, slots=True)
class Record:
    """The metadata of a file."""

    id: str
    name: str
    size: int
    """In bytes."""
    account: str
    """The account that uploaded it."""
    uploaded: str
    """Time of the upload in UTC, in ISO 8601."""


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Try to lock a folder, and yield True if it succeeded. The lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """Flush the directory entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove the folder of a file, without opening a file descriptor: there may be none left."""
    try:
        for name in (CONTENT, RECORD):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.error("%s is left behind until the next start: %s", folder, error)


class Upload:
    """An upload in progress. The file does not exist until ``keep`` has returned.

    The methods may run in several threads: threads of a cancelled handler continue.
    """

    def __init__(self, store: "Store") -> None:
        """Create an upload, without writing to disk."""
        self._store = store
        self._turn = Lock()
        self._open = ExitStack()
        self._closed = False
        self.size = 0
        """Bytes received so far."""

    def open(self) -> None:
        """Create the file. Raises OSError if the disk is full."""
        with self._turn:
            if self._closed:
                return
            self._claim()
            self._file = self._open.enter_context((self._folder / CONTENT).open("xb", 1024**2))

    def _claim(self) -> None:
        """Create the folder of this upload, and lock it."""
        while True:
            self.id = f"{time.time_ns():016x}{secrets.token_hex(8)}"
            self._folder = self._store.incoming / self.id
            self._folder.mkdir(mode=0o750)
            self._open.callback(_remove, self._folder)
            # A worker that is starting may remove it before it is locked.
            with suppress(FileNotFoundError):
                lock = os.open(self._folder, os.O_RDONLY)
                self._open.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._folder.exists():
                    return

    def write(self, chunk: bytes) -> None:
        """Append to the file. Raises OSError if the disk is full."""
        with self._turn:
            self._file.write(chunk)
            self.size += len(chunk)

    def keep(self, name: str, account: str) -> Record:
        """Finish the upload: the file is then listed, and survives a power failure.

        Raises OSError if the disk is full.
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
        """Abort the upload, and remove its files."""
        with self._turn, suppress(OSError):  # a full disk has been reported already
            self._closed = True
            self._open.close()


class Store:
    """The uploaded files."""

    def __init__(self, folder: Path) -> None:
        """Create the store from UPLOAD_FOLDER, which need not exist yet."""
        self.files = folder.absolute() / "files"
        self.incoming = folder.absolute() / "incoming"

    def open(self) -> None:
        """Create the folders, and remove the incomplete uploads of killed processes.

        Raises OSError if the folder is not writable.
        """
        for folder in (self.files, self.incoming):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        for left in filter(Path.is_dir, self.incoming.iterdir()):
            with suppress(FileNotFoundError), _locked(left) as ours:
                if ours:
                    shutil.rmtree(left)
                    logger.info("removed an upload that was cut off: %s", left.name)

    def page(self, size: int, before: str = "") -> list[Record]:
        """Return up to ``size`` records older than ``before``, the newest first.

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
        """Return the path of a file's content."""
        return self.files / file_id / CONTENT

    def find(self, file_id: str) -> Record:
        """Return the record of a file.

        Raises LookupError if the file does not exist or its record is invalid, and OSError if the
        record cannot be read.
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
        """Delete a file, if it exists."""
        gone = self.incoming / file_id
        with suppress(FileNotFoundError):
            (self.files / file_id).rename(gone)
            _remove(gone)
