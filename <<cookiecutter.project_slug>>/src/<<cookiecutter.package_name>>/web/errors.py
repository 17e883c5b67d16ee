"""Error pages: HTML for browsers, problem JSON (RFC 9457) for everybody else."""

import logging
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from .context import get_context
from .negotiation import accepted
from .templating import render

logger = logging.getLogger(__name__)

SENTENCES: Final = {
    400: "The server could not make sense of the request.",
    403: "You are not allowed to see this page.",
    404: "There is no page at this address.",
    405: "This address does not answer that kind of request.",
    406: "The page is not available in a form that your program asked for.",
    413: "What you sent is larger than the server takes.",
    500: "Something went wrong on our side, and it has been written down.",
    503: "The service is not ready; please try again in a moment.",
}
"""What a person reads, by status; other statuses show their reason phrase alone."""

REASON_500: Final = "Internal Server Error"
_OWN_HEADERS: Final = frozenset({hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH})


def error_response(
    request: web.Request, status: int, reason: str, detail: str | None
) -> web.Response:
    """Return the page or the problem document for an error, whichever the client prefers."""
    context = get_context(request)
    response: web.Response | None = None
    if accepted(request, ("application/json", "text/html")) == "text/html":
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
        problem = {"type": "about:blank", "title": reason, "status": status}
        if detail:
            problem["detail"] = detail
        response = web.json_response(
            {**problem, "request_id": context.request_id},
            status=status,
            reason=reason,
            content_type="application/problem+json",
        )
    response.headers.add(hdrs.VARY, hdrs.ACCEPT)
    return response


@web.middleware
async def errors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever goes wrong further in into a response that gives nothing away."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # redirections are raised too
            raise
        if error.status == 500:
            logger.exception("raised by a handler: %s", error.text)
            return error_response(request, 500, REASON_500, None)
        detail = None if error.text == f"{error.status}: {error.reason}" else error.text
        response = error_response(request, error.status, error.reason, detail)
        for name, value in error.headers.items():
            if name not in _OWN_HEADERS:
                response.headers.add(name, value)
        return response
    except Exception:
        logger.exception("unhandled error")
        if request.writer.output_size > 0:
            raise  # half a response is sent: aiohttp closes the connection, so that nobody trusts it
        return error_response(request, 500, REASON_500, None)
