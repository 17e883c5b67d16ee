"""Handling of ``Expect: 100-continue``: the client waits before it sends a large body.

aiohttp responds before any middleware runs. So a route for large bodies is added with
``expect_handler=expect.wait``, and its handler calls ``proceed`` when it accepts the body.
"""

from aiohttp import HttpVersion11, hdrs, web


async def wait(_request: web.Request) -> None:
    """Send no response yet, so that the middlewares and the handler can refuse the request."""


async def proceed(request: web.Request) -> None:
    """Send 100 Continue if the client waits for it. Raises web.HTTPExpectationFailed."""
    expected = request.headers.get(hdrs.EXPECT, "").lower()
    if not expected or request.version < HttpVersion11:
        return
    if expected != "100-continue":
        raise web.HTTPExpectationFailed(text="Only 100-continue may be expected.")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response itself has not begun
