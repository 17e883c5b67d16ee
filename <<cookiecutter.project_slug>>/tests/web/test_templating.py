import jinja2
import pytest
from aiohttp import hdrs, web
from aiohttp_jinja2 import APP_KEY
from pytest_aiohttp import AiohttpClient
from structlog.testing import LogCapture

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import nesting, templating

from ..helpers import Client

# % endfilter
HELPERS = (
    "{{ url('index') }} {{ url('outer:page') }} {{ url('outer:inner:item', key='ä b') }}"
    " {{ url('index', {'q': 'a b'}) }} {{ static('site.css') }} {{ integrity('site.css') }}"
)


async def helpers(request: web.Request) -> web.Response:
    """Answer what the helpers make, with the request handed to no template."""
    environment = jinja2.Environment(autoescape=True)
    environment.globals.update(
        url=templating.url, static=templating.static, integrity=templating.integrity
    )
    return web.Response(text=environment.from_string(HELPERS).render())


def nested_three_deep() -> web.Application:
    app = create_app()
    outer, inner = web.Application(), web.Application()
    inner.router.add_get("/item/{key}", helpers, name="item")
    outer.router.add_get("/", helpers, name="page")
    nesting.nest(outer, "/inner/", "inner", inner)
    nesting.nest(app, "/outer/", "outer", outer)
    app.router.add_get("/helpers", helpers)
    return app


async def test_helpers_mean_the_same_in_every_application(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(nested_three_deep())
    pages = set()
    for path in ("/helpers", "/outer/", "/outer/inner/item/1"):
        async with client.get(path) as response:
            assert response.status == 200
            pages.add(await response.text())
    (page,) = pages
    index, outer, item, query, *rest = page.split(" ")
    assert (index, outer) == ("/", "/outer/")
    assert (item, query) == ("/outer/inner/item/%C3%A4%20b", "/?q=a+b")
    assert rest[0].startswith("/static/site.css?v=")
    assert rest[1].startswith("sha256-")


async def test_the_log_names_routes_as_templates_do(
    aiohttp_client: AiohttpClient, access_log: LogCapture
) -> None:
    client = await aiohttp_client(nested_three_deep())
    for path in ("/", "/helpers", "/outer/inner/item/1", "/nowhere", "/outer/nowhere"):
        await client.get(path)
    await client.close()
    routes = [entry["route"] for entry in access_log.entries]
    assert routes == ["index", "/helpers", "outer:inner:item", None, None]


def test_names_of_nested_applications_are_not_taken_twice() -> None:
    app = create_app()
    nesting.nest(app, "/one/", "name", web.Application())
    with pytest.raises(ValueError, match="nested here already"):
        nesting.nest(app, "/two/", "name", web.Application())
    with pytest.raises(KeyError):
        nesting.url_for(app, "no:such")


async def test_development_leaves_integrity_out(development: None, client: Client) -> None:
    async with client.get("/") as response:
        assert 'integrity=""' in await response.text()


async def test_scripts_carry_the_nonce_of_the_policy(client: Client) -> None:
    nonces = set()
    for _ in range(2):
        async with client.get("/", headers={hdrs.ACCEPT: "text/html"}) as response:
            page = await response.text()
            nonce = page.partition('nonce="')[2].partition('"')[0]
            policy = response.headers["Content-Security-Policy"]
            assert f"script-src 'nonce-{nonce}' 'strict-dynamic'" in policy
            assert page.count("<script") == page.count(f'nonce="{nonce}"') == 2
            nonces.add(nonce)
    assert len(nonces) == 2


async def test_undefined_names_are_errors() -> None:
    app = create_app()
    with pytest.raises(jinja2.UndefinedError):
        app[APP_KEY].from_string("{{ nothing }}").render()
