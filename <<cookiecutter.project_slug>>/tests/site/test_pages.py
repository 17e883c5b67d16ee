import pytest
from aiohttp import hdrs

# % filter replace("package_name", cookiecutter.package_name)
from package_name import about

from ..helpers import Client


# % endfilter
@pytest.mark.parametrize("path", ["/", "/about"])
async def test_pages_are_html(client: Client, path: str) -> None:
    async with client.get(path, headers={hdrs.ACCEPT: "text/html"}) as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        assert response.headers[hdrs.CACHE_CONTROL] == "private, no-cache"
        assert "<h1" in await response.text()


async def test_about_as_json(client: Client) -> None:
    async with client.get("/about", headers={hdrs.ACCEPT: "application/json"}) as response:
        assert await response.json() == {
            "name": about.NAME,
            "description": about.DESCRIPTION,
            "author": about.AUTHOR,
        }


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/robots.txt", "text/plain"), ("/favicon.ico", "image/vnd.microsoft.icon")],
)
async def test_robots_and_favicon_are_served_at_the_root(
    client: Client, path: str, content_type: str
) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        assert response.content_type == content_type
        assert response.headers[hdrs.CACHE_CONTROL] == "public, max-age=86400"
        assert await response.read()
