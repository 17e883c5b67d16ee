"""SQLite files for tests."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def new_databases() -> Iterator[Callable[[], str]]:
    """Yield a function that returns the URL of a file that does not exist yet."""
    numbers = count(1)
    with TemporaryDirectory(prefix="sqlite-") as folder:
        yield lambda: f"sqlite:///{folder}/{next(numbers)}.db"


@contextmanager
def empty_databases(migrated: str) -> Iterator[Callable[[Path], str]]:
    """Yield a function that copies a migrated database into a folder and returns the copy's URL."""

    def copy(folder: Path) -> str:
        shutil.copy(migrated.removeprefix("sqlite:///"), folder / "app.db")
        return f"sqlite:///{folder}/app.db"

    yield copy
