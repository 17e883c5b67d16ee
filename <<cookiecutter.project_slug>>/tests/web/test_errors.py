import json
import logging
from typing import cast

import pytest
from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.typedefs import Handler
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import errors
from package_name.web.templating import render

from ..helpers import Client, own

# % endfilter
SECRET = "the-password-in-the-exception"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def boom(_request: web.Request) -> web.Response:
    raise RuntimeError(SECRET)


async def late(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half of it")
    raise RuntimeError(SECRET)


async def moved(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/")


async def late_404(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half of it")
    raise web.HTTPNotFound(text=SECRET)


async def nothing(_request: web.Request) -> None:
    pass


async def no_text(_request: web.Request) -> web.Response:
    error = web.HTTPBadRequest()
    error.body = b"\xff"
    raise error


async def markup(_request: web.Request) -> web.Response:
    raise web.HTTPBadRequest(text="<script>alert(1)</script>")


async def teapot(_request: web.Request) -> web.Response:
    error = web.HTTPTooManyRequests(text="Slow down.", headers={hdrs.RETRY_AFTER: "7", "X-A": "b"})
    error.set_cookie("seen", "yes")
    raise error


async def own_500(_request: web.Request) -> web.Response:
    raise web.HTTPInternalServerError(reason=SECRET, text=SECRET)


async def no_template(request: web.Request) -> web.Response:
    return render(request, f"{SECRET}.html")


@pytest.fixture
async def failing(aiohttp_client: AiohttpClient) -> Client:
    app = create_app()
    for handler in (
        *(boom, late, late_404, moved, teapot, own_500, no_template, no_text, markup),
        cast(Handler, nothing),
    ):
        app.router.add_get(f"/{handler.__name__}", handler)
    return await aiohttp_client(app)


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json",
        "application/problem+json, text/html;q=0.9",
        "image/*",
    ],
)
async def test_programs_get_problem_json(client: Client, accept: str) -> None:
    async with client.get("/nowhere", headers={hdrs.ACCEPT: accept}) as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"
        assert await response.json() == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "request_id": response.headers["X-Request-ID"],
        }


async def test_browsers_get_a_page(client: Client) -> None:
    async with client.get("/nowhere", headers={hdrs.ACCEPT: BROWSER}) as response:
        assert response.status == 404
        assert response.content_type == "text/html"
        assert errors.SENTENCES[404] in await response.text()
        assert response.headers[hdrs.VARY] == hdrs.ACCEPT
        assert response.headers[hdrs.CACHE_CONTROL] == "no-store"


@pytest.mark.parametrize("path", ["/boom", "/own_500", "/no_template", "/nothing"])
@pytest.mark.parametrize("accept", ["*/*", BROWSER])
async def test_a_500_shows_the_id_and_nothing_else(failing: Client, path: str, accept: str) -> None:
    async with failing.get(path, headers={hdrs.ACCEPT: accept}) as response:
        assert response.status == 500
        assert response.reason == "Internal Server Error"
        text = await response.text()
        assert response.headers["X-Request-ID"] in text
        for given_away in (SECRET, "RuntimeError", "Traceback", ".py"):
            assert given_away not in text


@pytest.mark.parametrize("path", ["/boom", "/own_500", "/no_template", "/nothing"])
async def test_what_went_wrong_is_logged(
    failing: Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    await failing.get(path)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert SECRET in str(record.exc_info[1]) or path == "/nothing"


async def test_an_error_page_that_fails_is_problem_json(
    failing: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "SENTENCES", None)  # so that the page cannot be made
    async with failing.get("/boom", headers={hdrs.ACCEPT: BROWSER}) as response:
        assert response.status == 500
        assert json.loads(await response.text())["status"] == 500


@pytest.mark.parametrize("path", ["/late", "/late_404"])
async def test_half_a_response_is_not_followed_by_another(
    failing: Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with failing.get(path) as response:
        assert response.status == 200
        with pytest.raises(ClientPayloadError):
            await response.read()
    assert [record for record in caplog.records if record.exc_info]


async def test_headers_and_text_of_an_error_are_kept(failing: Client) -> None:
    async with failing.get("/teapot") as response:
        assert response.status == 429
        assert response.headers[hdrs.RETRY_AFTER] == "7"
        assert response.headers["X-A"] == "b"
        assert response.cookies["seen"].value == "yes"
        assert (await response.json())["detail"] == "Slow down."
    async with failing.get("/teapot", headers={hdrs.ACCEPT: BROWSER}) as response:
        assert "Slow down." in await response.text()
    async with failing.post("/", headers=own(failing)) as response:
        assert response.status == 405
        assert response.headers[hdrs.ALLOW] == "GET,HEAD"


async def test_what_a_handler_says_is_escaped(failing: Client) -> None:
    async with failing.get("/markup", headers={hdrs.ACCEPT: BROWSER}) as response:
        text = await response.text()
        assert "&lt;script&gt;alert(1)" in text
        assert "<script>alert" not in text


async def test_a_body_that_is_no_text_is_no_detail(failing: Client) -> None:
    async with failing.get("/no_text") as response:
        assert response.status == 400
        assert "detail" not in await response.json()


async def test_redirections_pass(failing: Client) -> None:
    async with failing.get("/moved", allow_redirects=False) as response:
        assert response.status == 302
        assert response.headers[hdrs.LOCATION] == "/"
