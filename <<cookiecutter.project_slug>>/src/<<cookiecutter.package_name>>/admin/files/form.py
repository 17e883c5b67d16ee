"""The form of an upload, which is read as it comes."""

import asyncio
import warnings
from typing import Final, cast

from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam

from .names import safe_name
from .store import Upload

# aiohttp quotes what it cannot read of a form, and Python would remember each such text.
for category in (BadContentDispositionHeader, BadContentDispositionParam):
    warnings.filterwarnings("ignore", category=category)

CHUNK: Final = 256 * 1024
"""Bytes that are read and written at a time."""
OVERHEAD: Final = 16 * 1024
"""Bytes of the form around the file itself, at most."""
LINE: Final = 64
"""Bytes that each line around the file counts for, besides those that it has."""
MAX_HEADER: Final = 4096
"""Bytes of one header of a part."""


class _Body:
    """The body of a request, for aiohttp's parser, which has no limits of its own."""

    def __init__(self, content: StreamReader, limit: int) -> None:
        self._content = content
        self._limit = limit
        self._around = 0
        self.at_eof = content.at_eof
        self.unread_data = content.unread_data

    async def read(self, size: int) -> bytes:
        """Return some of the body. Raises web.HTTPRequestEntityTooLarge."""
        if self._content.total_bytes > self._limit + OVERHEAD:
            raise web.HTTPRequestEntityTooLarge(self._limit)
        return await self._content.read(size)

    async def readline(self, *, max_line_length: int = OVERHEAD) -> bytes:
        """Return a line of what is around the file. Raises web.HTTPRequestEntityTooLarge."""
        try:
            line = await self._content.readline(max_line_length=max_line_length)
        except HttpProcessingError:  # the line is too long
            raise web.HTTPRequestEntityTooLarge(self._limit) from None
        self._around += len(line) + LINE
        if self._around > OVERHEAD:
            raise web.HTTPRequestEntityTooLarge(self._limit)
        return line


async def receive(request: web.Request, upload: Upload, limit: int) -> str:
    """Write the file in a form to disk as it comes, and return its name.

    Raises web.HTTPBadRequest when the form is not one file, web.HTTPRequestEntityTooLarge when the
    file has more than ``limit`` bytes, or the rest more than OVERHEAD; OSError.
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
            pass  # what follows the form means nothing, but it counts
    except (ValueError, LookupError, AssertionError, HttpProcessingError):  # of aiohttp's parser
        raise web.HTTPBadRequest(text="Send one file, in the field named file.") from None
    return safe_name(part.filename)
