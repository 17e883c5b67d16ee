"""An account, and a client that has signed in."""

import pytest
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app

from ..helpers import CHEAP_HASHER, Client, own
from .helpers import PASSWORD, sign_in

# % endfilter
HASH = CHEAP_HASHER.hash(PASSWORD.encode())


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> str:
    """The hash of the account named ada."""
    monkeypatch.setenv("ADMIN_USERS", f"ada:{HASH}")
    return HASH


@pytest.fixture
async def admin(aiohttp_client: AiohttpClient) -> Client:
    """A client that has signed in, and that says where its requests come from."""
    client = await aiohttp_client(create_app())
    assert (await sign_in(client)).status == 303
    client.session.headers.update(own(client))
    return client
