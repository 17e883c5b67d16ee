"""Signing in."""

from aiohttp import ClientResponse

from ..helpers import Client, own

PASSWORD = "correct horse battery staple"


async def sign_in(
    client: Client,
    name: str = "ada",
    password: str = PASSWORD,
    query: str = "",
    **headers: str,
) -> ClientResponse:
    """Send the form as a page of the site does; headers are named with ``_``."""
    return await client.post(
        f"/admin/login{query}",
        data={"name": name, "password": password},
        headers=own(client) | {key.replace("_", "-"): value for key, value in headers.items()},
        allow_redirects=False,
    )
