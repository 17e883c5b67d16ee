"""Pages by aiohttp_jinja2, with helpers that mean the same in every application and template.

They find the request through a context variable: no template has to hand it on, macros included.
"""

from collections.abc import Callable, Mapping, MutableMapping
from types import FunctionType
from typing import Any, Final, cast

import aiohttp_jinja2
from aiohttp import web
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FunctionLoader,
    PackageLoader,
    StrictUndefined,
)
from jinja2.runtime import Context

from .. import about
from ..settings import SETTINGS
from . import nesting
from .context import CURRENT
from .static import STATIC

MENU: Final = web.AppKey("MENU", dict[str, str])
"""Route names of the pages in an application's menu, by their titles."""

_PATHS: Final = web.AppKey("_PATHS", dict[str, str])
"""Paths of routes without parts, by their names: they do not change, and a page has many."""


def url(name: str, query_: Mapping[str, str] | None = None, /, **parts: str | int) -> str:
    """Return the URL of a route by its name, from the outermost application: ``admin:overview``."""
    app = CURRENT.get().app
    if parts or query_:
        path = nesting.url_for(app, name, **{key: str(part) for key, part in parts.items()})
        return str(path.with_query(query_))
    paths = app[_PATHS]
    if name not in paths:
        paths[name] = str(nesting.url_for(app, name))
    return paths[name]


def static(filename: str) -> str:
    """Return the versioned URL of a static file."""
    return CURRENT.get().app[STATIC].versioned_url(filename)


def integrity(filename: str) -> str:
    """Return the value of the ``integrity`` attribute for a static script or style sheet (W3C SRI).

    Empty, which allows everything, when there is no such file, and in development: live reload
    replaces files of a loaded page.
    """
    app = CURRENT.get().app
    return "" if app[SETTINGS].development else app[STATIC].integrity(filename)


def csp_nonce() -> str:
    """Return the nonce that a script of this page must carry."""
    return CURRENT.get().script_nonce()


def user() -> str:
    """Return the name of the account that is signed in; empty outside the admin."""
    return CURRENT.get().user


def menu(name: str | None = None) -> dict[str, str]:
    """Return titles and route names of the site's menu, or of a nested application's."""
    app = CURRENT.get().app
    return (app[nesting.NESTED][name] if name else app)[MENU]


def add_to_menu(app: web.Application, title: str, route: str) -> None:
    """Show a page in the menu of an application, after those that are there."""
    app.setdefault(MENU, {})[title] = route


class _Context(Context):
    """Call plain functions, as the helpers are, at once: Jinja's own check costs more than they do."""

    def call(self, obj: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if type(obj) is FunctionType and not obj.__dict__:
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return obj(*args, **kwargs)
        return super().call(obj, *args, **kwargs)


class _Environment(Environment):
    """Jinja's environment, less work that it does anew for every page."""

    context_class = _Context

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """Return the globals of a template: a dict, which is copied faster than a ChainMap."""
        return {**self.globals, **(d or {})}


def render(request: web.Request, template: str, /, **context: Any) -> web.Response:
    """Return the page that a template of the request's application makes of the context.

    Raises jinja2.TemplateError when the template is wrong.
    """
    environment = request.config_dict[aiohttp_jinja2.APP_KEY]
    text = environment.get_template(template).render(context)
    return web.Response(text=text, content_type="text/html")


def _loader(package: str, *, development: bool) -> BaseLoader:
    """Return a loader of a package's templates, as they are now: the code of a release needs its own.

    In development they are read when they change.
    """
    loader = PackageLoader(package)
    if development:
        return loader
    asking = Environment(autoescape=True)
    sources = {name: loader.get_source(asking, name) for name in loader.list_templates()}
    return FunctionLoader(sources.get)


def setup(app: web.Application, package: str, *, development: bool) -> None:
    """Let the outermost application render its package's templates."""
    environment = _Environment(
        autoescape=True,
        loader=_loader(package, development=development),
        auto_reload=development,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    app[aiohttp_jinja2.APP_KEY] = environment
    app[_PATHS] = {}
    environment.globals.update(
        about=about,
        csp_nonce=csp_nonce,
        integrity=integrity,
        menu=menu,
        static=static,
        url=url,
        user=user,
    )


def extend(app: web.Application, package: str, outer: web.Application) -> None:
    """Let a nested application render its package's templates, and all that ``outer`` renders."""
    environment = outer[aiohttp_jinja2.APP_KEY]
    own = _loader(package, development=environment.auto_reload)
    loader = ChoiceLoader([own, cast(BaseLoader, environment.loader)])
    app[aiohttp_jinja2.APP_KEY] = environment.overlay(loader=loader)
