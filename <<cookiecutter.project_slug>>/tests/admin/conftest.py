"""Fixtures: an account, and a signed-in client."""

import pytest
from pytest_aiohttp import AiohttpClient

from ..helpers import CHEAP_HASHER, Client
from .helpers import PASSWORD, signed_in

HASH = CHEAP_HASHER.hash(PASSWORD.encode())


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> str:
    """Add the account ada to the settings, and return its password hash."""
    monkeypatch.setenv("ADMIN_USERS", f"ada:{HASH}")
    return HASH


@pytest.fixture
async def admin(aiohttp_client: AiohttpClient) -> Client:
    """Return a signed-in client that sends its origin with each request."""
    return await signed_in(aiohttp_client)
