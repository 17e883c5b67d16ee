"""Helpers that sign in with the form of the site."""

from aiohttp import ClientResponse
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app

from ..helpers import Client, own

# % endfilter
PASSWORD = "correct horse battery staple"


async def sign_in(
    client: Client,
    name: str = "ada",
    password: str = PASSWORD,
    query: str = "",
    **headers: str,
) -> ClientResponse:
    """Submit the sign-in form; write ``_`` for ``-`` in the names of headers."""
    return await client.post(
        f"/admin/login{query}",
        data={"name": name, "password": password},
        headers=own(client) | {key.replace("_", "-"): value for key, value in headers.items()},
        allow_redirects=False,
    )


async def signed_in(aiohttp_client: AiohttpClient) -> Client:
    """Return a signed-in client of a new application; it sends its origin with each request."""
    client = await aiohttp_client(create_app())
    assert (await sign_in(client)).status == 303
    client.session.headers.update(own(client))
    return client


async def is_signed_in(client: Client, **headers: str) -> bool:
    """Return True if the server shows the client a page of the admin."""
    async with client.get("/admin/", headers=headers, allow_redirects=False) as response:
        assert response.status in {200, 401}
        return response.status == 200
