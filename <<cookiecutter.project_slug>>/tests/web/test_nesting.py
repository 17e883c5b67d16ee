import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient
from structlog.testing import LogCapture

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import nesting

from .helpers import echo, nested_app


# % endfilter
def test_nest_refuses_a_name_that_is_taken() -> None:
    app = create_app()
    nesting.nest(app, "/one/", "name", web.Application())
    with pytest.raises(ValueError, match="nested here already"):
        nesting.nest(app, "/two/", "name", web.Application())


@pytest.mark.parametrize("name", ["no:such", "outer:no", "outer:inner:no", "no"])
def test_url_for_raises_key_error_for_an_unknown_route(name: str) -> None:
    with pytest.raises(KeyError):
        nesting.url_for(nested_app(echo), name)


async def test_access_log_names_routes_of_nested_applications(
    aiohttp_client: AiohttpClient, access_log: LogCapture
) -> None:
    client = await aiohttp_client(nested_app(echo))
    for path in ("/", "/unnamed", "/outer/inner/item/1", "/outer/nowhere"):
        await client.get(path)
    await client.close()
    routes = [entry["route"] for entry in access_log.entries]
    assert routes == ["index", "/unnamed", "outer:inner:item", None]
