"""``Expect: 100-continue``: the client asks before it sends a large body (row W16).

aiohttp answers before any middleware is asked. A route that takes large bodies is added with
``expect_handler=expect.wait``, and its handler calls ``proceed`` once it will take the body.
"""

from aiohttp import HttpVersion11, hdrs, web


async def wait(_request: web.Request) -> None:
    """Answer nothing yet, so that the middlewares and the handler may refuse."""


async def proceed(request: web.Request) -> None:
    """Ask for the body, if the client waits for that. Raises web.HTTPExpectationFailed."""
    expected = request.headers.get(hdrs.EXPECT, "").lower()
    if not expected or request.version < HttpVersion11:
        return
    if expected != "100-continue":
        raise web.HTTPExpectationFailed(text="Only 100-continue may be expected.")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response itself has not begun
