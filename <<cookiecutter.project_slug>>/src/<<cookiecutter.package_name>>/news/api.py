"""The JSON API of the news at /api/news. Clients with a token may write items and read drafts."""

import logging
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from aiohttp import hdrs, web
from aiojobs.aiohttp import shield
from pydantic import ValidationError

from ..database import DATABASE
from ..web.conditional import entity_tag, require_version
from ..web.context import get_context
from ..web.errors import InvalidError
from ..web.json_body import read_json
from ..web.templating import url
from ..web.tokens import has_token, require_token
from . import lists, publishing, store
from .drafts import Draft
from .models import Item

logger = logging.getLogger(__name__)

_ERRORS: Final = 20
"""Maximum number of errors in a response."""
_LONGEST: Final = 100
"""Maximum number of characters of a field's name in an error."""
_CHANGED: Final = "Somebody else has changed it meanwhile: get it again."


def _pointer(*location: int | str) -> str:
    """Return a JSON pointer as a URL fragment (RFC 6901, section 6)."""
    parts = (str(part)[:_LONGEST].replace("~", "~0").replace("/", "~1") for part in location)
    return "#" + "".join(f"/{quote(part)}" for part in parts)


async def _draft(request: web.Request) -> Draft:
    """Return the draft in the body.

    Raises web.HTTPUnsupportedMediaType, web.HTTPBadRequest if the body is not JSON, and
    InvalidError.
    """
    body = await read_json(request)
    try:
        return Draft.model_validate_json(body, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        raise web.HTTPBadRequest(text=f"{found[0]['msg']}.")
    raise InvalidError(
        [
            {"pointer": _pointer(*each["loc"]), "detail": each["msg"].removeprefix("Value error, ")}
            for each in found[:_ERRORS]
        ]
    )


def _response(request: web.Request, item: Item, **more: Any) -> web.Response:
    return web.json_response(lists.as_data(request, item), **more)


def _etag(response: web.Response) -> str:
    """Return a strong entity tag, which If-Match requires."""
    return entity_tag((response.text or "").encode())


def _checking(request: web.Request) -> Callable[[Item], None]:
    """Return a function that raises web.HTTPPreconditionFailed if If-Match has another version."""
    return lambda item: require_version(request, _etag(_response(request, item)))


async def _save(request: web.Request, draft: Draft, id_: int | None = None) -> Item:
    app, check = get_context(request).app, _checking(request)
    try:
        item = await shield(request, publishing.save(app, draft, id_, check))
    except LookupError:
        raise web.HTTPNotFound from None
    except store.SlugError as error:
        raise InvalidError([{"pointer": _pointer("slug"), "detail": str(error)}]) from None
    except store.ChangedError:
        raise web.HTTPConflict(text=_CHANGED) from None
    logger.info("news saved", extra={"item": item.id})
    return item


def _id(request: web.Request) -> int:
    return int(request.match_info["id"])


async def list_all(request: web.Request) -> web.Response:
    """Return a page of the published items; with a token, of all items, the last created first."""
    page = await (lists.everything if has_token(request) else lists.published)(request)
    return lists.json_page(request, page)


async def create(request: web.Request) -> web.Response:
    """Create an item, and respond with 201."""
    require_token(request)
    item = await _save(request, await _draft(request))
    location = url("news_api_item", id=item.id)
    return _response(request, item, status=201, headers={hdrs.LOCATION: location})


async def get(request: web.Request) -> web.Response:
    """Return an item."""
    drafts = has_token(request)
    async with request.config_dict[DATABASE].reading() as session:
        item = await store.get(session, _id(request))
    if item is None or not (drafts or item.published_at):
        raise web.HTTPNotFound
    response = _response(request, item)
    response.headers[hdrs.ETAG] = _etag(response)
    return response


async def replace(request: web.Request) -> web.Response:
    """Replace an item; the body must contain the version that it replaces."""
    require_token(request)
    draft = await _draft(request)
    if draft.version is None:
        raise InvalidError([{"pointer": _pointer("version"), "detail": "Field required"}])
    return _response(request, await _save(request, draft, _id(request)))


async def delete(request: web.Request) -> web.Response:
    """Delete an item; the query must contain the version that it deletes."""
    require_token(request)
    try:
        version = int(request.query.get("version", ""))
    except ValueError:
        error = {"parameter": "version", "detail": "has to be a number"}
        raise InvalidError([error]) from None
    app, id_, check = get_context(request).app, _id(request), _checking(request)
    try:
        await shield(request, publishing.delete(app, id_, version, check))
    except LookupError:
        raise web.HTTPNotFound from None
    except store.ChangedError:
        raise web.HTTPConflict(text=_CHANGED) from None
    logger.info("news deleted", extra={"item": id_})
    return web.Response(status=204)
