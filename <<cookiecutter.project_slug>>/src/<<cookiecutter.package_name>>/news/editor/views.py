"""Handlers of the list of all news items and drafts, and of the form that edits them."""

import logging
from datetime import UTC, datetime
from typing import Final

from aiohttp import web
from aiojobs.aiohttp import shield
from pydantic import ValidationError

from ...database import DATABASE
from ...web import nesting
from ...web.context import get_context
from ...web.forms import read_form
from ...web.templating import render
from .. import lists, publishing, store
from ..drafts import LONGEST_BODY, Draft
from ..models import Item

logger = logging.getLogger(__name__)

FIELDS: Final = ("title", "slug", "body", "published_at", "version")
BLANK: Final = dict.fromkeys(FIELDS, "")


def _id(request: web.Request) -> int | None:
    """Return the id in the URL, or None for a new item."""
    return int(request.match_info["id"]) if "id" in request.match_info else None


def _typed(item: Item) -> dict[str, str]:
    """Return the initial values of the form of an item."""
    published_at = item.published_at
    return {
        "title": item.title,
        "slug": item.slug,
        "body": item.body,
        "published_at": f"{published_at:%Y-%m-%dT%H:%M:%S}" if published_at else "",
        "version": str(item.version),
    }


def _draft(typed: dict[str, str], *, publish: bool) -> Draft:
    """Return the form's values as a validated draft. Raises pydantic.ValidationError."""
    moment: str | datetime | None = typed["published_at"] or None
    if publish:
        moment = datetime.now(UTC)
    elif moment:
        moment = f"{moment}Z"  # the form says that the time is in UTC
    version = typed["version"] or None
    return Draft.model_validate(typed | {"published_at": moment, "version": version})


def _form(
    request: web.Request,
    typed: dict[str, str],
    errors: dict[str, str] | None = None,
    theirs: Item | None = None,
    status: int = 200,
) -> web.Response:
    response = render(
        request,
        "form.html",
        id=_id(request),
        typed=typed,
        errors=errors or {},
        theirs=theirs,
        longest=LONGEST_BODY,
    )
    response.set_status(status)
    return response


async def page(request: web.Request) -> web.Response:
    """Render the list of all items, the newest first. Raises web.HTTPBadRequest."""
    items, older = await lists.everything(request)
    return render(request, "list.html", items=items, older=older)


async def _find(request: web.Request) -> Item | None:
    async with request.config_dict[DATABASE].reading() as session:
        return await store.get(session, int(request.match_info["id"]))


async def blank(request: web.Request) -> web.Response:
    """Render an empty form."""
    return _form(request, BLANK)


async def edit(request: web.Request) -> web.Response:
    """Render the form of an item. Raises web.HTTPNotFound."""
    item = await _find(request)
    if item is None:
        raise web.HTTPNotFound
    return _form(request, _typed(item))


async def _explain_conflict(request: web.Request, typed: dict[str, str]) -> web.Response:
    """Render the form with the user's values and the version that somebody else has saved."""
    theirs = await _find(request)
    version = str(theirs.version) if theirs else ""  # the next save may overwrite it
    error = "Somebody else has %s this meanwhile." % ("changed" if theirs else "deleted")
    return _form(request, typed | {"version": version}, {"version": error}, theirs, 409)


async def save(request: web.Request) -> web.Response:
    """Save the form; if it is invalid, render it again with 422, or with 409 after a conflict."""
    form = await read_form(request)
    typed = {name: form.get(name, "") for name in FIELDS}
    context = get_context(request)
    try:
        draft = _draft(typed, publish="publish" in form)
        item = await shield(request, publishing.save(context.app, draft, _id(request)))
    except ValidationError as error:
        messages = {str(each["loc"][0]): each["msg"] for each in error.errors()}
        errors = {name: text.removeprefix("Value error, ") for name, text in messages.items()}
        return _form(request, typed, errors, status=422)
    except store.SlugError as error:
        return _form(request, typed, {"slug": str(error)}, status=422)
    except (store.ChangedError, LookupError):
        return await _explain_conflict(request, typed)
    logger.info("news saved", extra={"item": item.id, "account": context.user})
    raise web.HTTPSeeOther(nesting.url_for(context.app, "admin:news:list"))


async def delete(request: web.Request) -> web.Response:
    """Delete an item. Raises web.HTTPNotFound, and web.HTTPConflict if the item was changed."""
    version = (await read_form(request)).get("version", "")
    context = get_context(request)
    id_ = int(request.match_info["id"])
    try:
        known = int(version) if version.isdecimal() and len(version) < 19 else 0
        await shield(request, publishing.delete(context.app, id_, known))
    except LookupError:
        raise web.HTTPNotFound from None
    except store.ChangedError:
        raise web.HTTPConflict(text="Somebody else has changed it meanwhile.") from None
    logger.info("news deleted", extra={"item": id_, "account": context.user})
    raise web.HTTPSeeOther(nesting.url_for(context.app, "admin:news:list"))
