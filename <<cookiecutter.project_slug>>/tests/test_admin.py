import pytest
from aiohttp import hdrs
from aiohttp_jinja2 import APP_KEY
from jinja2 import TemplateNotFound

# % filter replace("package_name", cookiecutter.package_name)
from package_name import about
from package_name.app import create_app
from package_name.web import nesting

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


async def test_the_address_without_slash_leads_there(development: None, client: Client) -> None:
    async with client.get("/admin") as response:
        assert response.status == 200
        assert response.url.path == "/admin/"


def test_it_has_templates_of_its_own_and_of_the_site() -> None:
    app = create_app()
    admin = app[nesting.NESTED]["admin"]
    for template in ("overview.html", "base.html"):
        assert admin[APP_KEY].get_template(template)
    with pytest.raises(TemplateNotFound):
        app[APP_KEY].get_template("overview.html")
