from aiohttp import hdrs

# % filter replace("package_name", cookiecutter.package_name)
from package_name import about

from .helpers import Client


# % endfilter
async def test_overview_shows_what_runs_and_links_both_ways(
    development: None, client: Client
) -> None:
    async with client.get("/admin/") as response:
        assert response.status == 200
        assert response.headers[hdrs.CACHE_CONTROL] == "no-store"
        page = await response.text()
    for shown in (about.DISTRIBUTION, "aiohttp", "Python", "Up for"):
        assert shown in page
    assert '<a href="/about">' in page  # of the outer application
    assert '<a href="/admin/">' in page  # its own
    assert "admin:overview" in page
    assert "/static</td>" in page  # a route that needs parts has no link
    async with client.get("/") as response:
        assert 'href="/admin/"' in await response.text()


async def test_nobody_gets_in_in_production(client: Client) -> None:
    async with client.get("/admin/", headers={hdrs.ACCEPT: "text/html"}) as response:
        assert response.status == 403
        assert "Overview" not in await response.text()
    async with client.get("/") as response:
        assert 'href="/admin/"' not in await response.text()
