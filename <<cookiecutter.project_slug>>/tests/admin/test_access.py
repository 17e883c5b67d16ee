from urllib.parse import quote

import pytest
from aiohttp import hdrs
from yarl import URL

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin import access

from ..helpers import Client, own
from .helpers import is_signed_in, sign_in

# % endfilter
HTML = {hdrs.ACCEPT: "text/html"}


@pytest.mark.parametrize("path", ["/admin/", "/admin/files/", "/admin/nowhere", "/admin/files/no"])
async def test_every_page_requires_a_session(client: Client, path: str) -> None:
    async with client.get(path, headers=HTML) as response:
        assert response.url.path == "/admin/login"
        assert response.url.query["next"] == path
        assert 'type="password"' in await response.text()
    async with client.get(path) as response:
        assert response.status == 401
        assert response.headers[hdrs.WWW_AUTHENTICATE] == 'Cookie form-action="/admin/login"'
    async with client.post(path, headers=HTML | own(client), allow_redirects=False) as response:
        assert response.status == 401


async def test_sign_in_redirects_to_the_page_that_was_asked_for(client: Client) -> None:
    response = await sign_in(client, query="?next=/admin/files/?before=0")
    assert response.status == 303
    assert response.headers[hdrs.LOCATION] == "/admin/files/?before=0"
    assert await is_signed_in(client)


@pytest.mark.parametrize(
    "target",
    [
        *("https://evil.example/admin/", "//evil.example/admin/", "/\\evil.example", "/about"),
        *("/admin/../about", "javascript:alert(1)", "http://[", "/adminevil/", "https:/admin/x"),
        *("http://xn--/admin/", "http://" + "\u5b57" * 200),
    ],
)
async def test_sign_in_redirects_only_into_the_admin(
    client: Client, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    def parse(text: str) -> URL:
        assert text.startswith("/"), "yarl decodes hosts in quadratic time"
        return URL(text)

    monkeypatch.setattr(access, "URL", parse)
    response = await sign_in(client, query=f"?next={quote(target)}")
    assert response.status == 303
    assert response.headers[hdrs.LOCATION] == "/admin/"
