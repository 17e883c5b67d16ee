"""Handlers that list, upload, download and delete files."""

import asyncio
import errno
import logging
from dataclasses import asdict
from typing import Final

from aiohttp import hdrs, web
from aiojobs.aiohttp import shield

from ...web import expect, nesting
from ...web.context import SETTINGS, get_context
from ...web.files import send_file
from ...web.headers import CSP
from ...web.negotiation import accepted
from ...web.templating import render
from .form import OVERHEAD, receive
from .names import attachment
from .store import CONTENT, Record, Store, Upload

logger = logging.getLogger(__name__)

STORE: Final = web.AppKey("STORE", Store)
PAGE_SIZE: Final = 50


async def page(request: web.Request) -> web.Response:
    """Render the list of files, the newest first."""
    before = request.query.get("before", "")
    records = await asyncio.to_thread(request.app[STORE].page, PAGE_SIZE, before)
    limit = request.config_dict[SETTINGS].max_upload_size
    older = records[-1].id if len(records) == PAGE_SIZE else None
    largest = limit.human_readable(separator=" ")
    return render(request, "files.html", records=records, older=older, largest=largest)


async def _keep(upload: Upload, name: str, account: str) -> Record:
    record = await asyncio.to_thread(upload.keep, name, account)
    logger.info("uploaded", extra={"file": record.id, "account": account})
    return record


async def _delete(store: Store, file_id: str, account: str) -> None:
    await asyncio.to_thread(store.delete, file_id)
    logger.info("deleted", extra={"file": file_id, "account": account})


async def upload(request: web.Request) -> web.Response:
    """Store an uploaded file. Respond to browsers with 303, to programs with 201 and the record."""
    limit = request.config_dict[SETTINGS].max_upload_size
    if request.content_type != "multipart/form-data":
        raise web.HTTPUnsupportedMediaType(text="Send a form with a file (multipart/form-data).")
    if (request.content_length or 0) > limit + OVERHEAD:
        raise web.HTTPRequestEntityTooLarge(limit)
    await expect.proceed(request)
    upload = Upload(request.app[STORE])
    try:
        try:
            name = await receive(request, upload, limit)
        except BaseException:  # for example, the client has disconnected
            await shield(request, asyncio.to_thread(upload.close))
            raise
        # From here on the client may disconnect: the file is complete.
        record = await shield(request, _keep(upload, name, get_context(request).user))
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        logger.error("no room for an upload: %s", error)
        raise web.HTTPInsufficientStorage from None
    app = get_context(request).app
    if accepted(request, ("application/json", "text/html")) == "text/html":
        raise web.HTTPSeeOther(nesting.url_for(app, "admin:files:list"))
    location = str(nesting.url_for(app, "admin:files:download", id=record.id))
    return web.json_response(asdict(record), status=201, headers={hdrs.LOCATION: location})


async def _find(request: web.Request) -> Record:
    """Return the record of the file in the URL. Raises web.HTTPNotFound."""
    try:
        return await asyncio.to_thread(request.app[STORE].find, request.match_info["id"])
    except LookupError:
        raise web.HTTPNotFound from None


async def download(request: web.Request) -> web.StreamResponse:
    """Send a file as a download, never inline: an HTML file could act on behalf of the user."""
    record = await _find(request)
    headers: dict[str, str] = {
        hdrs.CACHE_CONTROL: "private, no-cache",
        hdrs.CONTENT_DISPOSITION: attachment(record.name),
        hdrs.CONTENT_TYPE: "application/octet-stream",
        CSP: "sandbox; default-src 'none'",
    }
    location = request.config_dict[SETTINGS].accel_redirect
    if location and get_context(request).trusted:  # nginx sends it from the folder files/
        headers["X-Accel-Redirect"] = f"{location.rstrip('/')}/{record.id}/{CONTENT}"
        return web.Response(headers=headers)
    return await send_file(request, request.app[STORE].content(record.id), headers)


async def delete(request: web.Request) -> web.Response:
    """Delete a file."""
    record = await _find(request)
    await shield(request, _delete(request.app[STORE], record.id, get_context(request).user))
    raise web.HTTPSeeOther(nesting.url_for(get_context(request).app, "admin:files:list"))
