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
BROWSER_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def fails(_request: web.Request) -> web.Response:
    raise RuntimeError(SECRET)


async def fails_midway(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half of it")
    raise RuntimeError(SECRET)


async def redirects(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/")


async def not_found_midway(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half of it")
    raise web.HTTPNotFound(text=SECRET)


async def returns_none(_request: web.Request) -> None:
    pass


async def undecodable(_request: web.Request) -> web.Response:
    error = web.HTTPBadRequest()
    error.body = b"\xff"
    raise error


async def markup(_request: web.Request) -> web.Response:
    raise web.HTTPBadRequest(text="<script>alert(1)</script>")


async def too_many(_request: web.Request) -> web.Response:
    error = web.HTTPTooManyRequests(text="Slow down.", headers={hdrs.RETRY_AFTER: "7", "X-A": "b"})
    error.set_cookie("seen", "yes")
    raise error


async def raises_500(_request: web.Request) -> web.Response:
    raise web.HTTPInternalServerError(reason=SECRET, text=SECRET)


async def missing_template(request: web.Request) -> web.Response:
    return render(request, f"{SECRET}.html")


@pytest.fixture
async def failing(aiohttp_client: AiohttpClient) -> Client:
    app = create_app()
    for handler in (
        *(fails, fails_midway, not_found_midway, redirects, too_many, raises_500),
        *(missing_template, undecodable, markup),
        cast(Handler, returns_none),
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
async def test_error_is_problem_json_unless_html_is_preferred(client: Client, accept: str) -> None:
    async with client.get("/nowhere", headers={hdrs.ACCEPT: accept}) as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"
        assert await response.json() == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "request_id": response.headers["X-Request-ID"],
        }


async def test_error_is_an_html_page_for_browsers(client: Client) -> None:
    async with client.get("/nowhere", headers={hdrs.ACCEPT: BROWSER_ACCEPT}) as response:
        assert response.status == 404
        assert response.content_type == "text/html"
        assert errors.SENTENCES[404] in await response.text()
        assert response.headers[hdrs.VARY] == hdrs.ACCEPT
        assert response.headers[hdrs.CACHE_CONTROL] == "no-store"


@pytest.mark.parametrize("path", ["/fails", "/raises_500", "/missing_template", "/returns_none"])
@pytest.mark.parametrize("accept", ["*/*", BROWSER_ACCEPT])
async def test_internal_error_shows_the_request_id_only(
    failing: Client, path: str, accept: str
) -> None:
    async with failing.get(path, headers={hdrs.ACCEPT: accept}) as response:
        assert response.status == 500
        assert response.reason == "Internal Server Error"
        text = await response.text()
        assert response.headers["X-Request-ID"] in text
        for leak in (SECRET, "RuntimeError", "Traceback", ".py"):
            assert leak not in text


@pytest.mark.parametrize("path", ["/fails", "/raises_500", "/missing_template", "/returns_none"])
async def test_internal_error_is_logged_with_its_exception(
    failing: Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    await failing.get(path)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert SECRET in str(record.exc_info[1]) or path == "/returns_none"


async def test_error_page_that_fails_falls_back_to_problem_json(
    failing: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "SENTENCES", None)  # makes rendering the page fail
    async with failing.get("/fails", headers={hdrs.ACCEPT: BROWSER_ACCEPT}) as response:
        assert response.status == 500
        assert json.loads(await response.text())["status"] == 500


@pytest.mark.parametrize("path", ["/fails_midway", "/not_found_midway"])
async def test_error_in_mid_response_is_logged_and_cuts_the_connection(
    failing: Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with failing.get(path) as response:
        assert response.status == 200
        with pytest.raises(ClientPayloadError):
            await response.read()
    assert [record for record in caplog.records if record.exc_info]


async def test_http_exception_keeps_its_headers_cookies_and_text(failing: Client) -> None:
    async with failing.get("/too_many") as response:
        assert response.status == 429
        assert response.headers[hdrs.RETRY_AFTER] == "7"
        assert response.headers["X-A"] == "b"
        assert response.cookies["seen"].value == "yes"
        assert (await response.json())["detail"] == "Slow down."
    async with failing.get("/too_many", headers={hdrs.ACCEPT: BROWSER_ACCEPT}) as response:
        assert "Slow down." in await response.text()
    async with failing.post("/", headers=own(failing)) as response:
        assert response.status == 405
        assert response.headers[hdrs.ALLOW] == "GET,HEAD"


async def test_error_page_escapes_the_detail(failing: Client) -> None:
    async with failing.get("/markup", headers={hdrs.ACCEPT: BROWSER_ACCEPT}) as response:
        text = await response.text()
        assert "&lt;script&gt;alert(1)" in text
        assert "<script>alert" not in text


async def test_undecodable_text_of_an_error_is_left_out(failing: Client) -> None:
    async with failing.get("/undecodable") as response:
        assert response.status == 400
        assert "detail" not in await response.json()


async def test_redirect_is_not_an_error(failing: Client) -> None:
    async with failing.get("/redirects", allow_redirects=False) as response:
        assert response.status == 302
        assert response.headers[hdrs.LOCATION] == "/"
