from collections.abc import Mapping

import pytest
from aiohttp import hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import cors

from ..helpers import Client

# % endfilter
ALLOWED, UNLISTED = "https://app.example.com", "https://evil.example"


async def create(_request: web.Request) -> web.Response:
    return web.json_response({}, status=201)


async def make_client(aiohttp_client: AiohttpClient) -> Client:
    app = create_app()
    cors.allow(app, app.router.add_post("/things", create))
    app.router.add_post("/private", create)
    return await aiohttp_client(app)


@pytest.fixture
async def shared(aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("CORS_ORIGINS", f"{ALLOWED}, http://localhost:3000")
    return await make_client(aiohttp_client)


def preflight(origin: str, method: str = "POST") -> Mapping[str, str]:
    return {
        hdrs.ORIGIN: origin,
        hdrs.ACCESS_CONTROL_REQUEST_METHOD: method,
        hdrs.ACCESS_CONTROL_REQUEST_HEADERS: "content-type",
    }


async def test_allowed_origin_can_call_shared_routes(shared: Client) -> None:
    headers = {hdrs.ORIGIN: ALLOWED, hdrs.ACCEPT: "application/json"}
    async with shared.get("/about", headers=headers) as response:
        assert response.status == 200
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == ALLOWED
        assert response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] == "X-Request-ID"
        assert hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS not in response.headers
        assert hdrs.ORIGIN in response.headers.getall(hdrs.VARY)
    async with shared.options("/things", headers=preflight(ALLOWED)) as response:
        assert response.status == 200
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == ALLOWED
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] == "POST"
    same_site = {"Origin": ALLOWED, "Sec-Fetch-Site": "same-site"}
    async with shared.post("/things", headers=same_site) as response:
        assert response.status == 201
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == ALLOWED


async def test_unlisted_origin_gets_no_cors_headers(shared: Client) -> None:
    async with shared.get("/about", headers={hdrs.ORIGIN: UNLISTED}) as response:
        assert hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in response.headers
        assert hdrs.ORIGIN in response.headers.getall(hdrs.VARY)  # the response depends on it
    async with shared.options("/things", headers=preflight(UNLISTED)) as response:
        assert response.status == 403
    async with shared.post("/things", headers={hdrs.ORIGIN: UNLISTED}) as response:
        assert response.status == 403


async def test_allowed_origin_cannot_use_other_methods_routes_or_cookies(shared: Client) -> None:
    async with shared.options("/things", headers=preflight(ALLOWED, "DELETE")) as response:
        assert response.status == 403
    async with shared.post("/private", headers={hdrs.ORIGIN: ALLOWED}) as response:
        assert response.status == 403
    async with shared.post("/admin/logout", headers={hdrs.ORIGIN: ALLOWED}) as response:
        assert response.status in {403, 404}
    with_cookie = {hdrs.ORIGIN: ALLOWED, hdrs.COOKIE: "session=x"}
    async with shared.post("/things", headers=with_cookie) as response:
        assert response.status == 403
    async with shared.get("/", headers={hdrs.ORIGIN: ALLOWED}) as response:
        assert hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in response.headers


async def test_error_of_a_shared_route_has_cors_headers(shared: Client) -> None:
    headers = {hdrs.ORIGIN: ALLOWED, hdrs.ACCEPT: "image/png"}
    async with shared.get("/about", headers=headers) as response:
        assert response.status == 406
        assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == ALLOWED


async def test_cors_is_off_without_cors_origins(aiohttp_client: AiohttpClient) -> None:
    client = await make_client(aiohttp_client)
    async with client.get("/about", headers={hdrs.ORIGIN: ALLOWED}) as response:
        assert response.status == 200
        assert not [name for name in response.headers if name.startswith("Access-Control")]
        assert hdrs.ORIGIN not in response.headers.getall(hdrs.VARY)
    async with client.options("/things", headers=preflight(ALLOWED)) as response:
        assert response.status == 405
    async with client.post("/things", headers={hdrs.ORIGIN: ALLOWED}) as response:
        assert response.status == 403
