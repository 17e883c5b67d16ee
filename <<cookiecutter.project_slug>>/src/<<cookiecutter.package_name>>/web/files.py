"""Responses that send files, whole or in part.

aiohttp's FileResponse reports every operating system error as 404. It also ignores an entity tag in
If-Range, so a resumed download can combine two versions of the file.
"""

import asyncio
import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from aiohttp import hdrs, web

from .preconditions import is_current, requested_range

CHUNK: Final = 256 * 1024
"""Number of bytes that are read and sent at a time."""

_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_OF_304: Final = (hdrs.CACHE_CONTROL, hdrs.ETAG, hdrs.LAST_MODIFIED, hdrs.VARY)


def is_missing(error: OSError | ValueError) -> bool:
    """Return True if the file does not exist; False if the system failed to open it.

    ValueError comes from names that no file can have, such as one with a null character.
    """
    return isinstance(error, ValueError) or error.errno in _NOT_THERE


def _open(path: Path) -> tuple[BinaryIO, os.stat_result]:
    file = path.open("rb", buffering=0)
    return file, os.fstat(file.fileno())


async def send_file(
    request: web.Request, path: Path, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send a regular file, or the range of it that the client requests. Return the response.

    Raises web.HTTPNotFound, web.HTTPPreconditionFailed, web.HTTPRequestRangeNotSatisfiable, and
    OSError if the file cannot be read.
    """
    try:
        file, info = await asyncio.to_thread(_open, path)
    except OSError as error:
        if is_missing(error):
            raise web.HTTPNotFound from None
        raise
    with file:
        coding = headers.get(hdrs.CONTENT_ENCODING, "")
        etag = f'"{info.st_mtime_ns:x}-{info.st_size:x}{coding and "-"}{coding}"'
        modified = int(info.st_mtime)
        response = web.StreamResponse(
            headers={**headers, hdrs.ACCEPT_RANGES: "bytes", hdrs.ETAG: etag}
        )
        response.last_modified = modified
        if is_current(request, etag, modified):
            kept = {name: response.headers[name] for name in _OF_304 if name in response.headers}
            return web.Response(status=304, headers=kept)
        part = requested_range(request, info.st_size, etag, modified)
        if part is None:
            part = range(info.st_size)
        else:
            response.set_status(206)
            bounds = f"{part.start}-{part.stop - 1}"
            response.headers[hdrs.CONTENT_RANGE] = f"bytes {bounds}/{info.st_size}"
        response.content_length = len(part)
        with suppress(ConnectionError):  # aiohttp also notices that the client has left
            for start in part[::CHUNK] if request.method != hdrs.METH_HEAD else ():
                size = min(CHUNK, part.stop - start)
                chunk = await asyncio.to_thread(os.pread, file.fileno(), size, start)
                if len(chunk) < size:
                    raise OSError(f"{path} became shorter while it was sent")
                await response.prepare(request)
                await response.write(chunk)
            await response.prepare(request)
            await response.write_eof()
    return response
