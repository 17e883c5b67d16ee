"""Handlers for login and logout."""

import logging

from aiohttp import web

from ..passwords import MAX_LENGTH
from ..web import nesting
from ..web.context import get_context
from ..web.forms import read_form
from ..web.templating import render
from . import sessions
from .access import way_back
from .accounts import ACCOUNTS, TooManyAttemptsError

logger = logging.getLogger(__name__)


def _form(request: web.Request, name: str = "", wrong: str = "") -> web.Response:
    return render(
        request,
        "login.html",
        name=name[:64],
        wrong=wrong,
        longest=MAX_LENGTH,
        action=str(request.rel_url),
    )


async def page(request: web.Request) -> web.Response:
    """Render the login form, or redirect a user who is signed in already."""
    if get_context(request).user:
        raise web.HTTPSeeOther(way_back(request))
    return _form(request)


async def enter(request: web.Request) -> web.Response:
    """Sign in, or render the form again: 401 if it is wrong, 429 after too many attempts."""
    form = await read_form(request)
    name, password = form.get("name", ""), form.get("password", "")
    client = get_context(request).client
    try:
        right = await request.app[ACCOUNTS].check(name, password, client)
    except TooManyAttemptsError as error:
        logger.warning("sign-in refused for now")
        minutes = -(-error.seconds // 60)
        response = _form(request, name, f"Too many attempts. Please wait {minutes} min.")
        response.set_status(429)
        response.headers["Retry-After"] = str(error.seconds)
        return response
    if not right:
        logger.warning("sign-in failed")
        response = _form(request, name, "The name or the password is wrong.")
        response.set_status(401)
        return response
    await sessions.begin(request, name)
    logger.info("signed in", extra={"account": name})
    raise web.HTTPSeeOther(way_back(request))


async def leave(request: web.Request) -> web.Response:
    """Sign out."""
    await sessions.end(request)
    logger.info("signed out", extra={"account": get_context(request).user})
    raise web.HTTPSeeOther(nesting.url_for(get_context(request).app, "admin:login"))
