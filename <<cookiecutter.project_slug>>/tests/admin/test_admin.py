"""The admin as a nested application."""

import pytest
from aiohttp import hdrs
from aiohttp_jinja2 import APP_KEY
from jinja2 import TemplateNotFound
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import nesting

from ..helpers import Client


# % endfilter
@pytest.mark.parametrize("kind", ["development", "production"])
async def test_menu_of_the_site_links_the_admin_in_development_only(
    kind: str, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENT", kind)
    client = await aiohttp_client(create_app())
    async with client.get("/") as response:
        assert ('href="/admin/"' in await response.text()) == (kind == "development")


@pytest.mark.parametrize("path", ["/admin", "/admin/files"])
async def test_path_without_slash_is_redirected(admin: Client, path: str) -> None:
    async with admin.get(path) as response:
        assert response.status == 200
        assert response.url.path == f"{path}/"


async def test_unknown_path_is_an_error_page_of_the_site(admin: Client) -> None:
    async with admin.get("/admin/nowhere", headers={hdrs.ACCEPT: "text/html"}) as response:
        assert response.status == 404
        assert "no page at this address" in await response.text()


def test_nested_application_finds_its_own_templates_and_those_of_its_parents() -> None:
    app = create_app()
    admin = app[nesting.NESTED]["admin"]
    files = admin[nesting.NESTED]["files"]
    found = {
        app: {"base.html"},
        admin: {"base.html", "overview.html"},
        files: {"base.html", "overview.html", "files.html"},
    }
    for application, templates in found.items():
        for template in ("base.html", "overview.html", "files.html"):
            if template in templates:
                assert application[APP_KEY].get_template(template)
            else:
                with pytest.raises(TemplateNotFound):
                    application[APP_KEY].get_template(template)
