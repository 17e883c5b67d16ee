import jinja2
import pytest
from aiohttp import hdrs, web
from aiohttp_jinja2 import APP_KEY
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.web import templating

from ..helpers import Client
from .helpers import nested_app

# % endfilter
TEMPLATE = (
    "{{ url('index') }} {{ url('outer:page') }} {{ url('outer:inner:item', key='ä b') }}"
    " {{ url('index', {'q': 'a b'}) }} {{ static('site.css') }} {{ integrity('site.css') }}"
)


async def render(request: web.Request) -> web.Response:
    """Render the template without passing it the request."""
    environment = jinja2.Environment(autoescape=True)
    environment.globals.update(
        url=templating.url, static=templating.static, integrity=templating.integrity
    )
    return web.Response(text=environment.from_string(TEMPLATE).render())


async def test_helpers_give_the_same_urls_in_every_nested_application(
    aiohttp_client: AiohttpClient,
) -> None:
    client = await aiohttp_client(nested_app(render))
    pages = set()
    for path in ("/unnamed", "/outer/", "/outer/inner/item/1"):
        async with client.get(path) as response:
            assert response.status == 200
            pages.add(await response.text())
    (page,) = pages
    index, outer, item, query, *rest = page.split(" ")
    assert (index, outer) == ("/", "/outer/")
    assert (item, query) == ("/outer/inner/item/%C3%A4%20b", "/?q=a+b")
    assert rest[0].startswith("/static/site.css?v=")
    assert rest[1].startswith("sha256-")


async def test_integrity_is_empty_in_development(development: None, client: Client) -> None:
    async with client.get("/") as response:
        assert 'integrity=""' in await response.text()


async def test_scripts_carry_the_nonce_of_the_csp_which_is_new_each_time(client: Client) -> None:
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


async def test_undefined_variable_in_a_template_raises() -> None:
    app = create_app()
    with pytest.raises(jinja2.UndefinedError):
        app[APP_KEY].from_string("{{ nothing }}").render()
