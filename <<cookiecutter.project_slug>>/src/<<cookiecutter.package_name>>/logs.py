"""Logging: one JSON object per line in production, coloured text in development.

Every record from any library, in any task or executor thread that a request started, contains the
request id, because the id is read from a context variable at the time of logging.
"""

import logging
import logging.config
import os
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache, partial
from io import StringIO
from json import dumps as json_dumps
from math import isfinite
from typing import Any, Final, TextIO, cast

import orjson
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from .output import Output

REQUEST_ID: Final[ContextVar[str]] = ContextVar("REQUEST_ID")
"""Set by web/context.py at the start of a request; its tasks and threads inherit the value."""


def add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the id of the current request, if there is one (a structlog processor)."""
    if (request_id := REQUEST_ID.get(None)) is not None:
        event["request_id"] = request_id
    return event


_NOT_ASCII: Final = re.compile(r"[^ -~]")


@lru_cache(maxsize=1024)
def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return the text with escapes such as ``\x9b`` for all characters that are not printable.

    They could control a terminal, or reorder its text. If ``lines`` is true, line feeds are kept.
    """
    if lines:
        return "\n".join(map(visible, text.split("\n")))
    return text if text.isprintable() else _NOT_ASCII.sub(lambda match: _escape(match[0]), text)


def _text(value: object) -> str:
    """Return the value as text, or a text that reports that this failed."""
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _as_json(value: object) -> object:
    if value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return value
    text = value.isoformat() if isinstance(value, datetime) else _text(value)
    return text.encode(errors="backslashreplace").decode()  # without lone surrogates


def to_json(event: EventDict) -> bytes:
    """Return one event as JSON, in ASCII if it contains characters that are not printable.

    If orjson refuses the event (lone surrogates, cycles), unsupported values become text.
    """
    try:
        data = orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)
    except TypeError:
        items = event.items()
        data = json_dumps({_as_json(str(key)): _as_json(each) for key, each in items}).encode()
    if (data.isascii() and b"\x7f" not in data) or data.decode().isprintable():
        return data
    return json_dumps(orjson.loads(data), separators=(",", ":")).encode()  # all in ASCII


class _WithoutRequest(logging.Filter):
    """Filter that removes the text of malformed requests: aiohttp quotes it, cookies included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True for every record; shorten those of malformed requests."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | RequestPayloadError):
            record.msg, record.args = "malformed request: %s", (type(error).__name__,)
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


class _ExtraAdder(structlog.stdlib.ExtraAdder):
    """Processor that adds the values of ``extra``, which must not replace the message."""

    def __call__(self, logger: logging.Logger, name: str, event_dict: EventDict) -> EventDict:
        message = event_dict["event"]
        return {**super().__call__(logger, name, event_dict), "event": message}


def _by_level(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Drop events below the level of set_level(), which may change while loggers exist."""
    if not logging.getLogger().isEnabledFor(logging.getLevelName(method.upper())):
        raise structlog.DropEvent
    return event


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = datetime.now(UTC)  # orjson formats it faster than structlog does
    return event


class Tap:
    """Processor that passes a copy of each logged event to its listeners, in the logging thread.

    It is process-wide, like logging itself.
    """

    def __init__(self) -> None:
        """Create a tap without listeners."""
        self.listeners: set[Callable[[EventDict], None]] = set()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Call the listeners, and return the event unchanged (a structlog processor)."""
        for listener in tuple(self.listeners):
            listener({**event})
        return event


TAP: Final = Tap()


def set_level(level: str) -> None:
    """Set the minimum level of events that are logged."""
    logging.getLogger().setLevel(level)


class _Shown(str):
    """Text that the console renderer does not quote."""

    __slots__ = ()
    __repr__ = str.__str__


def _make_visible(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape the values that the console renderer would not quote."""
    shown: EventDict = {}
    for key, value in event.items():
        if key != "exc_info" and not (isinstance(value, str) and value.isprintable()):
            value = _Shown(visible(_text(value), lines=key in {"exception", "stack"}))
        shown[visible(str(key))] = value
    return shown


def _write_exception(stream: TextIO, exc_info: ExcInfo) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write(visible(text.getvalue(), lines=True))


def _console() -> Processor:
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        event_key="event",
        exception_formatter=_write_exception,
        pad_event_to=24,
    )
    return lambda logger, method, event: render(
        logger, method, _make_visible(logger, method, event)
    )


def _to_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return to_json(event).decode()


def _to_bytes(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return to_json(event)


def _notice(render: Processor, number: int) -> bytes:
    """Return the line that reports the number of dropped lines."""
    event = {"event": f"{number} lines dropped: the log was not read", "level": "warning"}
    stamped = structlog.processors.TimeStamper(fmt="iso")(None, "", event | {"logger": __name__})
    return f"{cast(str, render(None, '', stamped))}\n".encode()


def logging_config(*, level: str, json: bool) -> dict[str, Any]:
    """Return the dictConfig of the standard library's loggers, also for gunicorn's master."""
    render = _to_text if json else _console()
    shared: list[Processor] = [
        _ExtraAdder(),  # first, so that it does not overwrite later keys
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_request_id,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    if json:
        shared.append(structlog.processors.format_exc_info)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    TAP,
                    render,
                ],
            }
        },
        "filters": {"without_request": {"()": _WithoutRequest}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": Output(sys.stdout, partial(_notice, render)),
                "formatter": "structlog",
            }
        },
        "root": {"handlers": ["stdout"], "level": level},
        # adev and gunicorn add their own handlers to these; use the handler of the root instead.
        "loggers": {
            "aiohttp.server": {
                "handlers": [],
                "filters": ["without_request"],
                "propagate": True,
            },
            "gunicorn.error": {"handlers": [], "propagate": True},
        },
    }


def configure(*, level: str, json: bool) -> None:
    """Send all logs of this process to standard output.

    Entry points call this once, before they create the application.
    """
    config = logging_config(level=level, json=json)
    logging.config.dictConfig(config)
    logging.captureWarnings(True)
    output = config["handlers"]["stdout"]["stream"]
    # The access log uses structlog directly: half the cost of a record of the standard library.
    structlog.configure(
        processors=[
            _by_level,
            structlog.processors.add_log_level,
            add_request_id,
            *([_add_time] if json else [structlog.processors.TimeStamper(fmt="iso")]),
            TAP,
            _to_bytes if json else _console(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),  # _by_level decides
        logger_factory=(
            structlog.BytesLoggerFactory(output) if json else structlog.WriteLoggerFactory(output)
        ),
        cache_logger_on_first_use=False,
    )
