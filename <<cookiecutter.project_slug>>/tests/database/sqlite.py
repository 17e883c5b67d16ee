"""SQLite files for the tests."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def new_database() -> Iterator[str]:
    """Yield the URL of a file that does not exist yet."""
    with TemporaryDirectory(prefix="sqlite-") as folder:
        yield f"sqlite:///{folder}/app.db"


def empty_database(migrated: str, folder: Path) -> str:
    """Copy a migrated database into the folder, and return the URL of the copy."""
    shutil.copy(migrated.removeprefix("sqlite:///"), folder / "app.db")
    return f"sqlite:///{folder}/app.db"
