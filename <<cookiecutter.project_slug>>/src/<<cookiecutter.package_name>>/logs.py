"""Logging: one JSON object a line in production, coloured text in development.

Every record, of any library, in any task or executor thread that a request started, carries the
request's id, because the id is looked up in a context variable at the moment of logging.
"""

import logging
import logging.config
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from io import TextIOWrapper
from json import dumps as json_dumps
from math import isfinite
from typing import Any, Final

import orjson
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError
from structlog.typing import EventDict, Processor, WrappedLogger

REQUEST_ID: Final[ContextVar[str]] = ContextVar("REQUEST_ID")
"""Set by web/context.py at the start of a request; every task and thread below it inherits it."""


def add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the current request's id, if there is a current request (a structlog processor)."""
    if (request_id := REQUEST_ID.get(None)) is not None:
        event["request_id"] = request_id
    return event


def _as_json(value: object) -> object:
    if (
        value is None
        or isinstance(value, str | int)
        or (isinstance(value, float) and isfinite(value))
    ):
        return value
    try:
        return value.isoformat() if isinstance(value, datetime) else repr(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def to_json(event: EventDict) -> bytes:
    """Serialise one event; in one that orjson refuses (lone surrogates, circles), odd values are text."""
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)
    except TypeError:
        return json_dumps({str(key): _as_json(value) for key, value in event.items()}).encode()


class _WithoutRequest(logging.Filter):
    """Leave out the text of malformed requests, which aiohttp quotes, with cookies and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record; shorten those."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | RequestPayloadError):
            record.msg, record.args = "malformed request: %s", (type(error).__name__,)
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


class _ExtraAdder(structlog.stdlib.ExtraAdder):
    """Add what was logged as ``extra``, which must not take the place of the message."""

    def __call__(self, logger: logging.Logger, name: str, event_dict: EventDict) -> EventDict:
        message = event_dict["event"]
        return {**super().__call__(logger, name, event_dict), "event": message}


def _by_level(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Drop what set_level() silences, which may change while loggers live."""
    if not logging.getLogger().isEnabledFor(logging.getLevelName(method.upper())):
        raise structlog.DropEvent
    return event


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = datetime.now(UTC)  # which orjson writes faster than structlog does
    return event


class Tap:
    """Hands a copy of every event that is logged to whoever listens, in the thread that logs.

    As process-wide as the logging that it is a part of.
    """

    def __init__(self) -> None:
        """Begin with no listener."""
        self.listeners: set[Callable[[EventDict], None]] = set()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Be a processor of structlog that changes nothing."""
        for listener in tuple(self.listeners):
            listener({**event})
        return event


TAP: Final = Tap()


def set_level(level: str) -> None:
    """Log what is at least this severe, from now on."""
    logging.getLogger().setLevel(level)


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        event_key="event",
        pad_event_to=24,
    )


def _to_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return to_json(event).decode()


def _to_bytes(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return to_json(event)


def logging_config(*, level: str, json: bool) -> dict[str, Any]:
    """Return the dictConfig of the standard library's loggers, for us and for gunicorn's master."""
    shared: list[Processor] = [
        _ExtraAdder(),  # first, so that it does not overwrite what follows
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
                    _to_text if json else _console(),
                ],
            }
        },
        "filters": {"without_request": {"()": _WithoutRequest}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "structlog",
            }
        },
        "root": {"handlers": ["stdout"], "level": level},
        # adev and gunicorn give these handlers of their own; their records take the common way.
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
    """Send all logging of this process to standard output; the doors call this once, before the app."""
    if isinstance(sys.stdout, TextIOWrapper):  # nothing may be unprintable, whatever the locale
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.config.dictConfig(logging_config(level=level, json=json))
    logging.captureWarnings(True)
    # The access log takes this shorter way: half the cost of a record of the standard library.
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
            structlog.BytesLoggerFactory(sys.stdout.buffer)
            if json
            else structlog.WriteLoggerFactory(sys.stdout)
        ),
        cache_logger_on_first_use=False,
    )
