"""Rendering with aiohttp_jinja2, with the same helpers in every application and template.

The helpers find the request in a context variable, so templates and macros need not pass it along.
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
from . import nesting
from .context import CURRENT, SETTINGS
from .static import STATIC

MENU: Final = web.AppKey("MENU", dict[str, str])
"""Route names of the pages in an application's menu, by title."""

_PATHS: Final = web.AppKey("_PATHS", dict[str, str])
"""Paths of routes without parts, by name: they do not change, and a page uses many of them."""


def url(name: str, query_: Mapping[str, str] | None = None, /, **parts: str | int) -> str:
    """Return the URL of a route by its name in the outermost application: ``admin:overview``."""
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

    It is empty, which allows any content, if the file does not exist, and in development, because
    live reload replaces files of a loaded page.
    """
    app = CURRENT.get().app
    return "" if app[SETTINGS].development else app[STATIC].integrity(filename)


def csp_nonce() -> str:
    """Return the nonce that the scripts of this page must carry."""
    return CURRENT.get().script_nonce()


def user() -> str:
    """Return the name of the signed-in account; empty outside the admin."""
    return CURRENT.get().user


def menu(name: str | None = None) -> dict[str, str]:
    """Return the titles and route names in the menu of the site, or of a nested application."""
    app = CURRENT.get().app
    return (app[nesting.NESTED][name] if name else app)[MENU]


def add_to_menu(app: web.Application, title: str, route: str) -> None:
    """Append a page to the menu of an application."""
    app.setdefault(MENU, {})[title] = route


class _Context(Context):
    """Context that calls plain functions directly.

    The helpers are plain functions, and Jinja's own check costs more than they do.
    """

    def call(self, obj: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if type(obj) is FunctionType and not obj.__dict__:
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return obj(*args, **kwargs)
        return super().call(obj, *args, **kwargs)


class _Environment(Environment):
    """Jinja environment without some work that Jinja repeats for every page."""

    context_class = _Context

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """Return the globals of a template as a dict, which is copied faster than a ChainMap."""
        return {**self.globals, **(d or {})}


def render(request: web.Request, template: str, /, **context: Any) -> web.Response:
    """Render a template of the request's application, and return the response.

    Raises jinja2.TemplateError if the template is wrong.
    """
    environment = request.config_dict[aiohttp_jinja2.APP_KEY]
    text = environment.get_template(template).render(context)
    return web.Response(text=text, content_type="text/html")


def _loader(package: str, *, development: bool) -> BaseLoader:
    """Return a loader of a package's templates, which are read only once.

    A running process must not use the templates of a newer release. In development, templates are
    read again when they change.
    """
    loader = PackageLoader(package)
    if development:
        return loader
    asking = Environment(autoescape=True)
    sources = {name: loader.get_source(asking, name) for name in loader.list_templates()}
    return FunctionLoader(sources.get)


def setup(app: web.Application, package: str, *, development: bool) -> None:
    """Enable the outermost application to render the templates of its package."""
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
    """Enable a nested application to render its package's templates, and those of ``outer``."""
    environment = outer[aiohttp_jinja2.APP_KEY]
    own = _loader(package, development=environment.auto_reload)
    loader = ChoiceLoader([own, cast(BaseLoader, environment.loader)])
    app[aiohttp_jinja2.APP_KEY] = environment.overlay(loader=loader)
