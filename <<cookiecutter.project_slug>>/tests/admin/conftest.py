"""An account, and a client that has signed in with it."""

import pytest
from pytest_aiohttp import AiohttpClient

from ..helpers import CHEAP_HASHER, Client
from .helpers import PASSWORD, signed_in

HASH = CHEAP_HASHER.hash(PASSWORD.encode())


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> str:
    """Add the account ada to the settings, and return the hash of its password."""
    monkeypatch.setenv("ADMIN_USERS", f"ada:{HASH}")
    return HASH


@pytest.fixture
async def admin(aiohttp_client: AiohttpClient) -> Client:
    """A client that has signed in, and that sends its origin with each request."""
    return await signed_in(aiohttp_client)
