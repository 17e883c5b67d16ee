import io

import pytest
from aiohttp import FormData, hdrs, web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web.forms import read_form

from ..helpers import Client

# % endfilter
URLENCODED = "application/x-www-form-urlencoded"


async def form(request: web.Request) -> web.Response:
    return web.json_response(await read_form(request))


@pytest.fixture
async def forms(aiohttp_client: AiohttpClient) -> Client:
    app = create_app()
    app.router.add_post("/form", form)
    return await aiohttp_client(app)


async def test_read_form_returns_the_fields(forms: Client) -> None:
    async with forms.post("/form", data={"name": "ä & b", "empty": ""}) as response:
        assert await response.json() == {"name": "ä & b", "empty": ""}


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        (f"{URLENCODED}; charset=nonsense", b"name=a", 415),
        (f"{URLENCODED}; charset=punycode", b"name=a-aaaa", 415),  # decoding takes quadratic time
        (f"{URLENCODED}; charset=unicode_escape", b"name=\\ud800", 415),  # a lone surrogate
        (f"{URLENCODED}; charset=UTF-8", b"name=a", 200),
        (URLENCODED, b"name=\xff", 400),
        (URLENCODED, b"name=%ff", 200),
        (URLENCODED, b"", 200),
        (URLENCODED, b"&".join(b"a=b" for _ in range(2000)), 413),
        (URLENCODED, b"name=" + b"x" * 1024**2, 413),
    ],
)
async def test_read_form_refuses_other_types_malformed_and_large_bodies(
    forms: Client, content_type: str, body: bytes, status: int
) -> None:
    headers = {hdrs.CONTENT_TYPE: content_type}
    async with forms.post("/form", data=io.BytesIO(body), headers=headers) as response:
        assert response.status == status


async def test_read_form_refuses_files(forms: Client) -> None:
    data = FormData({"name": "a"})
    data.add_field("file", io.BytesIO(b"x"), filename="a.txt")
    async with forms.post("/form", data=data) as response:
        assert response.status == 415
