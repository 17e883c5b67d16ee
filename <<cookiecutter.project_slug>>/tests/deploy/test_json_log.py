"""deploy/json_log.py, run the way nginx and supervisord run it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ..helpers import TIMEOUT, until

SCRIPT = Path(__file__).parent.parent.parent / "deploy/json_log.py"


def command(*wrapped: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *wrapped]


def logged(output: bytes) -> list[dict[str, Any]]:
    """Return the log lines for a command's output."""
    done = subprocess.run(command("cat"), input=output, capture_output=True, check=True)
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines()]


LINES = [
    ("2026/11/26 03:00:00 [error] 7#7: *1 failed", "nginx.error", "error", "7#7: *1 failed"),
    ("2026/11/26 03:00:00 [emerg] 7#7: no", "nginx.error", "critical", "7#7: no"),
    ("2026/11/26 03:00:00 [notice] 7#7: yes", "nginx.error", "info", "7#7: yes"),
    ("nginx: [emerg] bind() failed", "nginx.error", "critical", "bind() failed"),
    (
        "nginx: configuration file x test failed",
        "nginx.error",
        "error",
        "configuration file x test failed",
    ),
    ("2026-11-26 03:00:00,123 INFO spawned: 'app'", "supervisord", "info", "spawned: 'app'"),
    ("2026-11-26 03:00:00,123 CRIT gone", "supervisord", "critical", "gone"),
    ("2026-11-26 03:00:00,123 WARN exited: app", "supervisord", "warning", "exited: app"),
    (
        "2026-11-26 03:00:00,123 WARN received SIGTERM indicating exit request",
        *("supervisord", "info", "received SIGTERM indicating exit request"),
    ),
    ("Traceback (most recent call last):", "output", "error", "Traceback (most recent call last):"),
    ("{no object", "output", "error", "{no object"),
    ("", "output", "error", ""),
]


def test_each_line_becomes_a_json_object() -> None:
    found = logged("".join(f"{line}\n" for line, *_ in LINES).encode())
    times = [datetime.fromisoformat(line.pop("timestamp")) for line in found]
    names = ("logger", "level", "event")
    assert found == [dict(zip(names, expected, strict=True)) for _, *expected in LINES]
    local = datetime.fromtimestamp(time.mktime((2026, 11, 26, 3, 0, 0, 0, 0, -1)), UTC)
    for stamp, (line, *_) in zip(times, LINES, strict=True):
        assert (stamp.replace(microsecond=0) == local) is line.startswith("2026")


def test_json_object_is_kept_and_the_last_line_needs_no_end() -> None:
    first, last = logged(b'{"event":"x"}\nlast')
    assert first == {"event": "x"}
    assert last["event"] == "last"


def test_what_is_not_printable_or_not_utf8_is_escaped() -> None:
    sent = b"2026/11/26 03:00:00 [error] \x1b[2J \xc2\x9b caf\xe9\n"
    done = subprocess.run(command("cat"), input=sent, capture_output=True, check=True)
    assert done.stdout.isascii()
    assert done.stdout.rstrip(b"\n").decode().isprintable()
    assert json.loads(done.stdout)["event"] == "\x1b[2J \x9b caf\\xe9"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_signal_reaches_the_command_and_its_status_is_returned(number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo caught; exit 7' {name}; echo ready; while :; do sleep 0.02; done"
    with subprocess.Popen(command("sh", "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["event"] == "ready"
        process.send_signal(number)
        assert json.loads(process.stdout.readline())["event"] == "caught"
        assert process.wait(TIMEOUT) == 7


def test_command_that_is_killed_or_missing_is_an_error() -> None:
    assert subprocess.run(command("sh", "-c", "kill -9 $$"), check=False).returncode == 128 + 9
    assert subprocess.run(command("/nowhere"), capture_output=True, check=False).returncode == 1


COUNT = 20_000
WRITER = f"""
from pathlib import Path
for number in range({COUNT}):
    print("x" * 200)
print("end", flush=True)
Path("written").touch()
"""


async def test_command_does_not_wait_for_the_reader_and_dropped_lines_are_counted(
    tmp_path: Path,
) -> None:
    script = f'{sys.executable} -c "$0"; read _; echo more'
    wrapped = command("sh", "-c", script, WRITER)
    process = await asyncio.create_subprocess_exec(*wrapped, stdin=PIPE, stdout=PIPE)
    await until((tmp_path / "written").exists)
    async with asyncio.timeout(TIMEOUT):
        output, _ = await process.communicate(b"\n")
    events = [json.loads(line)["event"] for line in output.splitlines()]
    notices = [event for event in events if event.endswith("the log was not read")]
    dropped = sum(int(notice.split()[0]) for notice in notices)
    assert dropped > 0
    assert dropped + len(events) - len(notices) == COUNT + 2


def test_command_goes_on_without_a_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    script = "for _ in 1 2 3; do echo x; sleep 0.05; done; exit 5"
    try:
        done = subprocess.run(command("sh", "-c", script), stdout=writer, check=False)
    finally:
        os.close(writer)
    assert done.returncode == 5
