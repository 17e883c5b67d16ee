import asyncio
import io
import json
import logging
import os
import pty
import sys
import unicodedata
import warnings
from typing import Any

import orjson
import pytest
import structlog
from aiohttp import web
from pytest_aiohttp import AiohttpClient
from structlog.typing import EventDict

# % filter replace("package_name", cookiecutter.package_name)
from package_name import logs
from package_name.app import create_app

from .helpers import json_lines, read_terminal

# % endfilter
library = logging.getLogger("some.library")


async def test_every_record_of_a_request_carries_its_id(
    json_log: io.BytesIO, aiohttp_client: AiohttpClient
) -> None:
    overlap = asyncio.Barrier(5)

    async def handler(_request: web.Request) -> web.Response:
        library.info("handler")
        await asyncio.create_task(asyncio.to_thread(library.info, "task and to_thread"))
        await asyncio.get_running_loop().run_in_executor(None, library.info, "executor")
        await overlap.wait()
        library.info("after")
        return web.Response()

    app = create_app()
    app.router.add_get("/everywhere", handler)
    client = await aiohttp_client(app)
    responses = await asyncio.gather(*(client.get("/everywhere") for _ in range(5)))
    await client.close()  # all lines are written by then
    lines = json_lines(json_log.getvalue().decode())
    records = [line for line in lines if line["logger"] in {"some.library", "access"}]
    for response in responses:
        request_id = response.headers["X-Request-ID"]
        events = [record["event"] for record in records if record["request_id"] == request_id]
        assert events == ["handler", "task and to_thread", "executor", "after", "request"]
    assert len(records) == 25


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.usefixtures("restored_logging")
async def test_tap_gives_listeners_a_copy_of_every_record(
    aiohttp_client: AiohttpClient, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    heard: list[dict[str, Any]] = []

    def listen(event: EventDict) -> None:
        heard.append({**event})
        event.clear()

    logs.configure(level="INFO", json=as_json)
    client = await aiohttp_client(create_app())
    logs.TAP.listeners.add(listen)
    try:
        library.debug("below the level")
        library.warning("hello %s", "you", extra={"order": 7})
        async with client.get("/livez") as response:
            request_id = response.headers["X-Request-ID"]
        await client.close()
    finally:
        logs.TAP.listeners.remove(listen)
    library.warning("after the listener left")
    hello, request = (each for each in heard if each["logger"] in {"some.library", "access"})
    assert (hello["event"], hello["level"], hello["order"]) == ("hello you", "warning", 7)
    assert (request["path"], request["request_id"]) == ("/livez", request_id)
    assert hello["timestamp"]
    assert request["timestamp"]
    written = capsys.readouterr().out
    assert all(text in written for text in ("hello you", "/livez", "after the listener left"))


def test_exceptions_extras_and_warnings_are_logged(json_log: io.BytesIO) -> None:
    try:
        raise ValueError("for the log")
    except ValueError:
        library.exception("it failed", extra={"order": 7})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("mind this", UserWarning, stacklevel=1)
    failed, warned = json_lines(json_log.getvalue().decode())
    assert failed["order"] == 7
    assert failed["level"] == "error"
    assert "ValueError: for the log" in failed["exception"]
    assert "request_id" not in failed
    assert "mind this" in warned["event"]


class FailingRepr:
    def __repr__(self) -> str:
        raise RuntimeError


CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)


@pytest.mark.parametrize(
    "value",
    [
        *("\udcff", 2**70, object(), {(1, 2): 3}, b"bytes", float("nan"), CIRCULAR),
        FailingRepr(),
    ],
    ids=[
        *("lone surrogate", "large number", "object", "tuple as key", "bytes", "NaN", "circular"),
        "failing repr",
    ],
)
def test_extra_that_is_not_json_does_not_lose_the_record(json_log: io.BytesIO, value: Any) -> None:
    library.info("odd", extra={"value": value})
    assert json.loads(json_log.getvalue())["event"] == "odd"


def test_extra_does_not_replace_the_fields_of_the_record(json_log: io.BytesIO) -> None:
    false = dict.fromkeys(("event", "level", "logger", "timestamp"), "false")
    library.warning("true", extra=false)
    record = json.loads(json_log.getvalue())
    assert (record["event"], record["level"]) == ("true", "warning")
    assert "false" not in record.values()


COMMANDS = "".join(
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"}
)
"""Characters that control a terminal, are invisible, or reorder other characters."""


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "console"])
@pytest.mark.parametrize("text", [COMMANDS, f"{COMMANDS}\ud800\udcff"], ids=["valid", "surrogates"])
@pytest.mark.usefixtures("restored_logging")
def test_characters_that_command_a_terminal_are_escaped_wherever_they_are(
    monkeypatch: pytest.MonkeyPatch, as_json: bool, text: str
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    logs.configure(level="INFO", json=as_json)
    for given in (text, f"two words {text}"):
        values = {"value": given, f"key {given}": 1, "nested": {given: [given]}, "bytes": given}
        try:
            raise ValueError(given)
        except ValueError as error:
            library.exception("failed %s", given, extra=values | {"error": error}, stack_info=True)
        structlog.get_logger(given).warning(given, **values)
    output = written.getvalue().decode()
    assert set(output) & set(text) == {"\n"}
    assert "\\u202e" in output
    for line in output.splitlines() if as_json else ():
        record = orjson.loads(line)  # refuses lone surrogates
        if text == COMMANDS:
            assert record["value"].endswith(text)


def test_letters_and_emoji_of_all_scripts_are_logged_as_they_are(json_log: io.BytesIO) -> None:
    text = "naïve 漢字 Жанна שלום 🚀 e\u0301"
    library.info(text)
    assert text in json_log.getvalue().decode()


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
@pytest.mark.usefixtures("restored_logging")
def test_development_log_is_coloured_on_a_terminal_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    terminal, stdout = pty.openpty()
    with os.fdopen(stdout, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        logs.configure(level="INFO", json=False)
        library.info("hello")
        structlog.get_logger().info("request")
    text = b"".join(read_terminal(terminal)).decode()
    assert "hello" in text
    assert "request" in text
    assert ("\x1b[" in text) is coloured
