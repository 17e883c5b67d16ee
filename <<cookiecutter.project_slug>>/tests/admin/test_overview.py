import re

import pytest
from aiohttp import hdrs
from aiohttp_jinja2 import APP_KEY
from jinja2 import TemplateNotFound
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name import about
from package_name.app import create_app
from package_name.settings import Settings
from package_name.web import nesting

from ..helpers import Client
from .helpers import sign_in


# % endfilter
async def test_it_shows_what_runs_and_links_both_ways(admin: Client) -> None:
    async with admin.get("/admin/") as response:
        assert response.status == 200
        assert response.headers[hdrs.CACHE_CONTROL] == "no-store"
        page = await response.text()
    for shown in (about.DISTRIBUTION, "aiohttp", "Python", "Up for"):
        assert shown in page
    assert '<a href="/about">' in page  # of the outer application
    assert '<a href="/admin/">' in page  # its own
    assert '<a href="/admin/files/">' in page  # of the third level
    for route in ("index", "admin:overview", "admin:files:list", "admin:files:download"):
        assert f"<code>{route}</code>" in page
    assert "/static</td>" in page  # a route that needs parts has no link


async def test_it_shows_the_settings_but_no_secret(
    admin: Client, monkeypatch: pytest.MonkeyPatch, account: str
) -> None:
    async with admin.get("/admin/") as response:
        page = await response.text()
    shown = dict(re.findall(r"<td><code>([A-Z_]+)</code></td>\s*<td>(.*)</td>", page))
    assert list(shown) == [name.upper() for name in Settings.model_fields]
    assert shown["ADMIN_USERS"] == "ada"
    assert set(shown["SECRET_KEYS"]) == {"*"}
    assert "localhost" in shown["ALLOWED_HOSTS"]
    assert account not in page
    assert "argon2" not in page


@pytest.mark.parametrize("kind", ["development", "production"])
async def test_the_menu_names_it_in_development_only(
    kind: str, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENT", kind)
    client = await aiohttp_client(create_app())
    async with client.get("/") as response:
        assert ('href="/admin/"' in await response.text()) == (kind == "development")


@pytest.mark.parametrize("path", ["/admin", "/admin/files"])
async def test_the_address_without_slash_leads_there(admin: Client, path: str) -> None:
    async with admin.get(path) as response:
        assert response.status == 200
        assert response.url.path == f"{path}/"


async def test_an_error_in_it_is_a_page_of_the_site(admin: Client) -> None:
    async with admin.get("/admin/nowhere", headers={hdrs.ACCEPT: "text/html"}) as response:
        assert response.status == 404
        assert "no page at this address" in await response.text()


def test_each_application_has_templates_of_its_own_and_those_further_out() -> None:
    app = create_app()
    admin = app[nesting.NESTED]["admin"]
    files = admin[nesting.NESTED]["files"]
    known = {
        app: {"base.html"},
        admin: {"base.html", "overview.html"},
        files: {"base.html", "overview.html", "files.html"},
    }
    for application, templates in known.items():
        for template in ("base.html", "overview.html", "files.html"):
            if template in templates:
                assert application[APP_KEY].get_template(template)
            else:
                with pytest.raises(TemplateNotFound):
                    application[APP_KEY].get_template(template)


async def test_two_applications_share_no_session(
    admin: Client, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEYS", "of-another-service-" * 3)
    other = await aiohttp_client(create_app())
    (cookie,) = admin.session.cookie_jar
    headers = {hdrs.COOKIE: f"session={cookie.value}"}
    assert (await other.get("/admin/", headers=headers)).status == 401
    assert (await sign_in(other)).status == 303
