"""The fields of a form."""

from aiohttp import web


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a form without files.

    Raises web.HTTPUnsupportedMediaType when the body is something else, web.HTTPBadRequest when it
    cannot be read, web.HTTPRequestEntityTooLarge beyond MAX_BODY_SIZE.
    """
    charset = (request.charset or "utf-8").lower()
    # Browsers send nothing else, and other encodings take long to decode, or give no text.
    if request.content_type != "application/x-www-form-urlencoded" or charset != "utf-8":
        raise web.HTTPUnsupportedMediaType
    try:
        fields = await request.post()
    except ValueError:  # no UTF-8
        raise web.HTTPBadRequest(text="The form cannot be read.") from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}
