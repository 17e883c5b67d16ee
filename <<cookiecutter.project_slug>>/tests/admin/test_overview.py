import re

import aiohttp
from aiohttp import hdrs

# % filter replace("package_name", cookiecutter.package_name)
from package_name import about
from package_name.settings import Settings

from ..helpers import Client


# % endfilter
async def test_overview_shows_versions_and_routes_of_all_levels(admin: Client) -> None:
    async with admin.get("/admin/") as response:
        assert response.status == 200
        assert response.headers[hdrs.CACHE_CONTROL] == "no-store"
        page = await response.text()
    for shown in (about.DISTRIBUTION, f"<dd>{aiohttp.__version__}</dd>", "Python", "Up for"):
        assert shown in page
    assert '<a href="/about">' in page  # a route of the main application
    assert '<a href="/admin/">' in page  # a route of the admin
    assert '<a href="/admin/files/">' in page  # a route of the third level
    for route in ("index", "admin:overview", "admin:files:list", "admin:files:download"):
        assert f"<code>{route}</code>" in page
    assert "/static/{filename}</td>" in page  # no link, because the route has a parameter


async def test_overview_shows_the_settings_without_secrets(admin: Client, account: str) -> None:
    async with admin.get("/admin/") as response:
        page = await response.text()
    shown = dict(re.findall(r"<td><code>([A-Z_]+)</code></td>\s*<td>(.*)</td>", page))
    assert list(shown) == [name.upper() for name in Settings.model_fields]
    assert shown["ADMIN_USERS"] == "ada"
    assert set(shown["SECRET_KEYS"]) == {"*"}
    assert "localhost" in shown["ALLOWED_HOSTS"]
    assert account not in page
    assert "argon2" not in page
