"""A file of the tests' own."""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory


@contextmanager
def new_database() -> Iterator[str]:
    """Yield the URL of an empty database."""
    with TemporaryDirectory(prefix="sqlite-") as folder:
        yield f"sqlite:///{folder}/app.db"
