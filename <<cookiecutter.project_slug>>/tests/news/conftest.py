"""Tokens of the API."""

import pytest

from .helpers import TOKEN


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set two tokens of the API."""
    monkeypatch.setenv("API_TOKENS", f"another-token-that-is-long-enough-too, {TOKEN}")
