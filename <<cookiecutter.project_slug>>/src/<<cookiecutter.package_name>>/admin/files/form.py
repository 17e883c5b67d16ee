"""Streaming parser for the upload form."""

import asyncio
import warnings
from typing import Final, cast

from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam

from .names import safe_name
from .store import Upload

# aiohttp quotes malformed headers in warnings, and Python would keep each distinct text in memory.
for category in (BadContentDispositionHeader, BadContentDispositionParam):
    warnings.filterwarnings("ignore", category=category)

CHUNK: Final = 256 * 1024
"""Size of each read and write, in bytes."""
OVERHEAD: Final = 16 * 1024
"""Maximum size of the form around the file, in bytes."""
LINE: Final = 64
"""Bytes added to the size of each line around the file when it is counted."""
MAX_HEADER: Final = 4096
"""Maximum size of one header of a part, in bytes."""


class _Body:
    """The body of a request, with the limits that aiohttp's parser does not have."""

    def __init__(self, content: StreamReader, limit: int) -> None:
        self._content = content
        self._limit = limit
        self._around = 0
        self.at_eof = content.at_eof
        self.unread_data = content.unread_data

    async def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes of the body. Raises web.HTTPRequestEntityTooLarge."""
        if self._content.total_bytes > self._limit + OVERHEAD:
            raise web.HTTPRequestEntityTooLarge(self._limit)
        return await self._content.read(size)

    async def readline(self, *, max_line_length: int = OVERHEAD) -> bytes:
        """Return a line of the form around the file. Raises web.HTTPRequestEntityTooLarge."""
        try:
            line = await self._content.readline(max_line_length=max_line_length)
        except HttpProcessingError:  # the line is too long
            raise web.HTTPRequestEntityTooLarge(self._limit) from None
        self._around += len(line) + LINE
        if self._around > OVERHEAD:
            raise web.HTTPRequestEntityTooLarge(self._limit)
        return line


async def receive(request: web.Request, upload: Upload, limit: int) -> str:
    """Write the file in a form to disk while it is received, and return its name.

    Raises web.HTTPBadRequest if the form is not exactly one file, web.HTTPRequestEntityTooLarge if
    the file is larger than ``limit`` bytes or the rest is larger than OVERHEAD, and OSError.
    """
    body = _Body(request.content, limit)
    try:
        form = MultipartReader(request.headers, cast(StreamReader, body), max_field_size=MAX_HEADER)
        try:
            part = await form.next()
        except RuntimeError as error:  # a malformed field _charset_
            raise ValueError from error
        if not isinstance(part, BodyPartReader) or part.name != "file" or not part.filename:
            raise ValueError
        await asyncio.to_thread(upload.open)
        while chunk := await part.read_chunk(CHUNK):
            if upload.size + len(chunk) > limit:
                raise web.HTTPRequestEntityTooLarge(limit)
            await asyncio.to_thread(upload.write, chunk)
        if await form.next() is not None:
            raise ValueError
        while await body.read(CHUNK):
            pass  # data after the form is ignored, but counts towards the limit
    except (ValueError, LookupError, AssertionError, HttpProcessingError):  # from aiohttp's parser
        raise web.HTTPBadRequest(text="Send one file, in the field named file.") from None
    return safe_name(part.filename)
