"""Handlers of the log page, its WebSocket and the switch of the log level."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from ...live import sockets
from ...web import nesting
from ...web.context import get_context
from ...web.forms import read_form
from ...web.templating import render
from .. import sessions
from . import feed, level

MAX_MINUTES = 60
"""Maximum duration of a change of the log level, in minutes."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter for the records that are shown."""

    level: str
    text: str
    request_id: str

    @classmethod
    def of(cls, query: Any) -> Self:
        """Return the filter for a query. Raises web.HTTPBadRequest if the level is invalid."""
        wanted = cls(
            query.get("level", "DEBUG"),
            query.get("text", "").strip().lower(),
            query.get("request_id", "").strip(),
        )
        if wanted.level not in level.LEVELS:
            raise web.HTTPBadRequest(text="There is no such level.")
        return wanted

    def matches(self, record: dict[str, Any]) -> bool:
        """Return True if a record is severe enough, and has the text and the request id."""
        given = str(record.get("level", "")).upper()
        severe = level.LEVELS.index(given) if given in level.LEVELS else len(level.LEVELS)
        return (
            severe >= level.LEVELS.index(self.level)
            and (not self.request_id or record.get("request_id") == self.request_id)
            and (not self.text or any(self.text in str(each).lower() for each in record.values()))
        )

    def of_all(self, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records that match."""
        return [record for record in records if self.matches(record)]


async def _matching(
    messages: AsyncIterable[dict[str, Any]], wanted: Wanted
) -> AsyncIterator[dict[str, Any]]:
    async for message in messages:
        records = wanted.of_all(message["records"])
        if records or message["dropped"]:
            yield {"type": "records"} | message | {"records": records}


async def page(request: web.Request) -> web.Response:
    """Render the log page, which loads the records itself, with the switch of the level."""
    return render(
        request,
        "logs.html",
        levels=level.LEVELS,
        switch=request.config_dict[level.SWITCH],
        longest=MAX_MINUTES,
    )


async def tail(request: web.Request) -> web.WebSocketResponse:
    """Send the matching records of all workers to a WebSocket until the session ends."""
    wanted = Wanted.of(request.query)
    lifetime = await sessions.seconds_left(request)
    async with feed.watch(get_context(request).app) as messages:
        return await sockets.stream(request, _matching(messages, wanted), lifetime=lifetime)


async def switch(request: web.Request) -> web.Response:
    """Switch the level of all workers. Raises web.HTTPBadRequest if the form is invalid."""
    form = await read_form(request)
    minutes = form.get("minutes", "")
    if form.get("level") not in level.LEVELS or not minutes.isdecimal():
        raise web.HTTPBadRequest(text="Name a level, and for how many minutes.")
    if len(minutes) > 4 or not 1 <= int(minutes) <= MAX_MINUTES:
        raise web.HTTPBadRequest(text=f"A level lasts from 1 to {MAX_MINUTES} minutes.")
    app = get_context(request).app
    await level.give(app, form["level"], 60 * int(minutes), get_context(request).user)
    raise web.HTTPSeeOther(nesting.url_for(app, "admin:logs:page"))
