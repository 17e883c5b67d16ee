"""Fixture that sets API tokens."""

import pytest

from .helpers import TOKEN


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set two API tokens."""
    monkeypatch.setenv("API_TOKENS", f"another-token-that-is-long-enough-too, {TOKEN}")
