"""Wrapper that runs a command, and writes each line of its output as JSON, like the application.

``python deploy/json_log.py COMMAND...`` is for nginx and supervisord, whose logs have their own
formats. It forwards signals to the command, and exits with its status. If the log is not read,
lines are dropped and counted, so that the command does not wait for the reader.
"""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

# % filter replace("package_name", cookiecutter.package_name)
from package_name.output import Output

# % endfilter

_FORMATS: Final = [
    ("nginx.error", re.compile(r"(\d{4}/\d\d/\d\d [\d:]{8}) \[(\w+)\] (.*)"), "%Y/%m/%d %H:%M:%S"),
    ("nginx.error", re.compile(r"nginx: ()\[(\w+)\] (.*)"), ""),
    ("nginx.error", re.compile(r"nginx: ()()(.*)"), ""),
    ("supervisord", re.compile(r"([\d-]{10} [\d:]{8},\d{3}) (\w+) (.*)"), "%Y-%m-%d %H:%M:%S,%f"),
]
_LEVELS: Final = {
    # Levels of nginx.
    **{"emerg": "critical", "alert": "critical", "crit": "critical", "warn": "warning"},
    **{"notice": "info", "info": "info", "debug": "debug"},
    # Levels of supervisord.
    **{"CRIT": "critical", "WARN": "warning", "INFO": "info", "DEBG": "debug"},
}
# The mode of supervisord's socket controls access to it, so it needs no authentication.
_NO_FAULT: Final = re.compile(
    r"received SIG\w+ indicating (exit|restart) request"
    r"|Server 'unix_http_server' running without any HTTP authentication checking"
)
_PASSED_ON: Final = [
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT),
    *(signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
]


def _fields(event: str, level: str, logger: str, time: datetime) -> bytes:
    stamp = time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    fields = {"event": event, "level": level, "logger": logger, "timestamp": stamp}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def to_json(line: bytes) -> bytes:
    """Return a line as a JSON object with ``event``, ``level``, ``logger`` and ``timestamp``.

    A JSON object is returned unchanged. A line in an unknown format is logged as an error: it comes
    from a program that could not start its own log.
    """
    if line.startswith(b"{") and line.endswith(b"}\n"):
        return line
    text = line.decode(errors="backslashreplace").rstrip("\n")
    for logger, pattern, time_format in _FORMATS:
        if match := pattern.fullmatch(text):
            level = "info" if _NO_FAULT.match(match[3]) else _LEVELS.get(match[2], "error")
            time = datetime.strptime(match[1], time_format) if time_format else datetime.now()
            return _fields(match[3], level, logger, time.astimezone(UTC))
    return _fields(text, "error", "output", datetime.now(UTC))


def _notice(number: int) -> bytes:
    """Return the line that reports the number of dropped lines."""
    event = f"{number} lines dropped: the log was not read"
    return _fields(event, "warning", "output", datetime.now(UTC))


def main(command: list[str]) -> int:
    """Run the command. Return its exit status, or 128 plus the number of the fatal signal."""
    statuses: dict[int, int] = {}
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: object) -> None:
        received.append(number)
        if process and process.pid not in statuses:
            os.kill(process.pid, number)

    def reap(*_: object) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                statuses[found[0]] = found[1]

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    reader, writer = os.pipe()
    process = subprocess.Popen(command, stdout=writer, stderr=writer)  # chosen by the caller
    os.close(writer)
    for number in received:
        os.kill(process.pid, number)
    # The first process of a container becomes the parent of all orphaned processes.
    signal.signal(signal.SIGCHLD, reap)
    reap()
    output = Output(sys.stdout, _notice)
    with os.fdopen(reader, "rb") as lines:
        for line in lines:
            output.write(to_json(line))
    with suppress(ChildProcessError):  # it may be reaped already
        statuses[process.pid] = os.waitpid(process.pid, 0)[1]
    status = os.waitstatus_to_exitcode(statuses[process.pid])
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
