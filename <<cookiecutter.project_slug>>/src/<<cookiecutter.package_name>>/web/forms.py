"""Parsing of forms."""

from aiohttp import web


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the fields of a form that has no files.

    Raises web.HTTPUnsupportedMediaType if the body is not a form, web.HTTPBadRequest if it cannot
    be decoded, web.HTTPRequestEntityTooLarge if it is larger than MAX_BODY_SIZE.
    """
    charset = (request.charset or "utf-8").lower()
    # Browsers send nothing else, and other encodings are slow to decode, or give invalid text.
    if request.content_type != "application/x-www-form-urlencoded" or charset != "utf-8":
        raise web.HTTPUnsupportedMediaType
    try:
        fields = await request.post()
    except ValueError:  # not UTF-8
        raise web.HTTPBadRequest(text="The form cannot be read.") from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}
