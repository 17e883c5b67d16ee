"""Settings for the tests of the news."""

import pytest

from ..helpers import TIMEOUT
from .helpers import TOKEN


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set two tokens of the API."""
    monkeypatch.setenv("API_TOKENS", f"another-token-that-is-long-enough-too, {TOKEN}")


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests wait for the database as long as a busy machine needs."""
    monkeypatch.setenv("DATABASE_TIMEOUT", str(TIMEOUT))
    monkeypatch.setenv("DATABASE_STATEMENT_TIMEOUT", str(TIMEOUT))
