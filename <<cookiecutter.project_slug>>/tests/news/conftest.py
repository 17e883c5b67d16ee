"""Settings for the tests of the news: tokens for the API."""

import pytest

from .helpers import TOKEN


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKENS", f"another-token-that-is-long-enough-too, {TOKEN}")
