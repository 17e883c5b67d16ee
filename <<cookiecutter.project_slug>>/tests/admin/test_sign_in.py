import logging

import pytest
from aiohttp import hdrs

# % filter replace("package_name", cookiecutter.package_name)
from package_name.passwords import MAX_LENGTH

from ..helpers import Client
from .helpers import PASSWORD, is_signed_in, sign_in


# % endfilter
async def test_wrong_name_and_wrong_password_get_the_same_response(client: Client) -> None:
    answers = []
    for name, password in (("ada", "wrong"), ("bob", PASSWORD)):
        response = await sign_in(client, name, password)
        page = (await response.text()).replace(name, "NAME")
        answers.append((response.status, page.partition("<main")[2]))
        assert "session" not in response.cookies
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    assert "The name or the password is wrong." in answers[0][1]


async def test_form_takes_no_more_than_can_be_right(client: Client) -> None:
    async with client.get("/admin/login") as response:
        assert f'maxlength="{MAX_LENGTH}"' in await response.text()
    response = await sign_in(client, "x" * 1000, "x" * (MAX_LENGTH + 1))
    assert response.status == 401
    assert "x" * 65 not in await response.text()


async def test_sign_in_page_redirects_when_signed_in(admin: Client) -> None:
    async with admin.get("/admin/login", headers={hdrs.ACCEPT: "text/html"}) as response:
        assert response.url.path == "/admin/"


async def test_form_of_another_content_type_is_refused(client: Client) -> None:
    async with client.post("/admin/login", json={"name": "ada", "password": PASSWORD}) as response:
        assert response.status == 415


async def test_name_and_password_are_not_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The log omits the name as well: it may be the password, typed into the wrong field."""
    caplog.set_level(logging.DEBUG)
    await sign_in(client, "typed-as-name", "typed-as-password")
    assert "sign-in failed" in caplog.text
    assert "typed" not in caplog.text


async def test_sign_out_is_a_post_of_the_same_origin(admin: Client) -> None:
    async with admin.get("/admin/logout") as response:
        assert response.status == 405
    assert await is_signed_in(admin)
    async with admin.post("/admin/logout", headers={hdrs.ORIGIN: "https://evil.example"}) as bad:
        assert bad.status == 403
    assert await is_signed_in(admin)
    async with admin.post("/admin/logout") as response:
        assert response.url.path == "/admin/login"
    assert not await is_signed_in(admin)
