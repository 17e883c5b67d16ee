"""Error responses: HTML for browsers, problem JSON (RFC 9457) for all other clients."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from .context import get_context
from .negotiation import accepted
from .templating import render

logger = logging.getLogger(__name__)

SENTENCES: Final = {
    400: "The server could not make sense of the request.",
    401: "Please sign in first.",
    403: "You are not allowed to see this page.",
    404: "There is no page at this address.",
    405: "This address does not answer that kind of request.",
    406: "The page is not available in a form that your program asked for.",
    408: "Your request took too long to arrive.",
    409: "It is not as it was when you looked at it.",
    412: "It is another version than your program asked for.",
    413: "What you sent is larger than the server takes.",
    415: "What you sent is not in a form that the server understands.",
    421: "This is not the server for that address.",
    422: "Something in what you sent is not as it has to be.",
    429: "That was too often; please wait a while.",
    431: "Your program sent more headers than the server takes.",
    500: "Something went wrong on our side, and it has been written down.",
    501: "The server cannot do what your program asked for.",
    503: "The service is not ready; please try again in a moment.",
    507: "There is no room left for what you sent.",
}
"""Messages for people, by status; for other statuses only the reason phrase is shown."""

PROBLEM: Final = "application/problem+json"
REASON_500: Final = "Internal Server Error"
_OWN_HEADERS: Final = frozenset({hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH})


class InvalidError(web.HTTPUnprocessableEntity):
    """A 422 response with errors such as ``{"pointer": "#/title", "detail": "is empty"}``."""

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        """Store the errors, for programs, and join their details into one text, for people."""
        super().__init__(text="; ".join(each["detail"] for each in errors))
        self.errors = errors


def error_response(
    request: web.Request,
    status: int,
    reason: str,
    detail: str | None,
    errors: Sequence[Mapping[str, str]] = (),
) -> web.Response:
    """Return an error page or a problem document, whichever the client prefers."""
    context = get_context(request)
    response: web.Response | None = None
    if accepted(request, (PROBLEM, "application/json", "text/html")) == "text/html":
        try:
            response = render(
                request,
                "error.html",
                status=status,
                reason=reason,
                sentence=SENTENCES.get(status),
                detail=detail,
                request_id=context.request_id,
            )
            response.set_status(status, reason)
        except Exception:
            logger.exception("the error page itself failed")
    if response is None:
        problem: dict[str, Any] = {"type": "about:blank", "title": reason, "status": status}
        if detail:
            problem["detail"] = detail
        if errors:
            problem["errors"] = errors
        response = web.json_response(
            {**problem, "request_id": context.request_id},
            status=status,
            reason=reason,
            content_type=PROBLEM,
        )
    response.headers.add(hdrs.VARY, hdrs.ACCEPT)
    return response


def _detail(error: web.HTTPException) -> str | None:
    """Return the text that the handler set; None if it is aiohttp's default or not valid text."""
    try:
        text = error.text
    except (LookupError, UnicodeDecodeError):
        return None
    return None if text == f"{error.status}: {error.reason}" else text


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == 500:
        logger.error("raised by a handler: %s", _detail(error), exc_info=error)
        return error_response(request, 500, REASON_500, None)
    errors = error.errors if isinstance(error, InvalidError) else ()
    response = error_response(request, error.status, error.reason, _detail(error), errors)
    for name, value in error.headers.items():
        if name not in _OWN_HEADERS:
            response.headers.add(name, value)
    response.cookies.update(error.cookies)
    return response


@web.middleware
async def errors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn all errors of the inner handlers into responses that reveal no internal details.

    Once part of a response has been sent, no other response may follow: aiohttp logs the error and
    closes the connection, which shows the client that the rest is missing.
    """
    try:
        response = await handler(request)
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"a handler returned {response!r} in place of a response")
        return response
    except asyncio.CancelledError:
        # aiohttp does not write these to the access log.
        logger.info("cancelled: %s %s", request.method, request.raw_path)
        raise
    except web.HTTPException as error:
        if request.writer.output_size > 0:
            raise RuntimeError("raised in the middle of a response") from error
        if error.status < 400:  # redirects are raised, too
            raise
        return _http_error(request, error)
    except Exception:
        if request.writer.output_size > 0:
            raise
        logger.exception("unhandled error")
        return error_response(request, 500, REASON_500, None)
