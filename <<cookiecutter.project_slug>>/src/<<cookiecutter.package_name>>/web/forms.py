"""The fields of a form."""

from aiohttp import web


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a form without files.

    Raises web.HTTPUnsupportedMediaType when the body is something else, web.HTTPBadRequest when it
    cannot be read, web.HTTPRequestEntityTooLarge beyond MAX_BODY_SIZE.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType
    try:
        fields = await request.post()
    except (ValueError, LookupError):  # bytes, or the name of an encoding, that mean nothing
        raise web.HTTPBadRequest(text="The form cannot be read.") from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}
