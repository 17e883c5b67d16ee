import fcntl
import os
import pty
import signal
import socket
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.output import PIPE_SIZE, Output

from .helpers import GUNICORN, children, json_lines, running, session, until

# % endfilter
NOBODY = 65534


def notice(number: int) -> bytes:
    return b"%d dropped\n" % number


def read_all(descriptor: int) -> bytes:
    """Return the current contents of a pipe or socket."""
    os.set_blocking(descriptor, False)
    parts = []
    with suppress(BlockingIOError):
        while part := os.read(descriptor, 1024**2):
            parts.append(part)
    return b"".join(parts)


Ends = tuple[int, Callable[[], Output]]


@contextmanager
def ends_of(reader: int, writer: int, *, others: bool) -> Iterator[Ends]:
    """Yield the reading end, and a function that returns a log to the writing one.

    The latter belongs to another user if ``others`` is true, and cannot be opened again.
    """
    own = os.geteuid()
    if others:
        os.fchmod(writer, 0)
        if own == 0:
            os.seteuid(NOBODY)
    with os.fdopen(writer, "w") as stream:
        yield reader, lambda: Output(stream, notice)
    os.close(reader)
    os.seteuid(own)


@pytest.fixture(params=["pipe", "another user's pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Yield the read end of a pipe or socket, and a function returning a log to the other end."""
    if request.param == "socket":
        reader, writer = (each.detach() for each in socket.socketpair())
    else:
        reader, writer = os.pipe()
    with ends_of(reader, writer, others=request.param == "another user's pipe") as both:
        yield both


def test_full_pipe_drops_whole_lines_and_counts_them(ends: Ends) -> None:
    reader, log = ends
    output = log()
    lines = [b"%d %s\n" % (number, b"x" * 1000 * (number % 10)) for number in range(2000)]
    for line in lines:
        output.write(line)
    taken = read_all(reader)
    output.write("after\n")
    *found, told, after = (taken + read_all(reader)).splitlines(keepends=True)
    assert (told.endswith(b" dropped\n"), after) == (True, b"after\n")
    number = 0
    for line in [*found, told]:
        if line.endswith(b" dropped\n"):
            number += int(line.split()[0])
        else:
            assert line == lines[number]
            number += 1
    assert number == len(lines)
    output.write("next\n")
    assert read_all(reader) == b"next\n"


def test_line_longer_than_a_pipe_is_finished_before_the_next(ends: Ends) -> None:
    reader, log = ends
    output = log()
    long = b"x" * 2 * PIPE_SIZE + b"\n"
    output.write(long)
    taken = read_all(reader)
    assert len(taken) < len(long)
    while len(taken) < len(long):
        output.write("dropped or not\n")
        taken += read_all(reader)
    assert taken.startswith(long)
    rest = taken[len(long) :].splitlines()
    assert {line.split(b" ", 1)[1] for line in rest} <= {b"dropped", b"or not"}


def test_child_process_does_not_send_the_rest_of_its_parent(ends: Ends) -> None:
    reader, log = ends
    output = log()
    output.write(b"x" * 2 * PIPE_SIZE)
    read_all(reader)
    child = os.fork()
    if child == 0:
        output.write("child\n")
        os._exit(0)
    os.waitpid(child, 0)
    assert read_all(reader) == b"child\n"
    output.write("parent\n")
    assert read_all(reader).startswith(b"xxx")


def test_reader_that_has_left_is_not_an_error(ends: Ends) -> None:
    reader, log = ends
    output = log()
    os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
    output.write("line\n")


@pytest.fixture(params=["own", "another user's"])
def terminal(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Yield the display end of a terminal, and a function that returns a log to the other end."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    with ends_of(master, slave, others=request.param == "another user's") as both:
        yield both


async def test_terminal_that_nobody_reads_does_not_stop_the_program(terminal: Ends) -> None:
    master, log = terminal
    number = 1000
    child = os.fork()
    if child == 0:
        output = log()
        for _ in range(number):
            output.write("x" * 1000 + "\n")
        os._exit(0)
    try:
        await until(lambda: os.waitpid(child, os.WNOHANG)[0])
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        raise
    output, found = log(), b""

    def is_told() -> bool:
        nonlocal found
        found += read_all(master)
        output.write("after\n")
        return found.endswith(b"after\n")

    await until(is_told)
    assert found.count(b"x") < number * 1000


async def request_all(path: Path) -> None:
    async with session(path) as client:
        for _ in range(50):
            async with client.get("/livez") as response:
                assert response.status == 200


async def test_gunicorn_serves_and_reloads_while_nobody_reads_its_log(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with running(GUNICORN, path, BIND=f"unix:{path}", WEB_CONCURRENCY="1") as server:
        assert server.stdout
        pipe = server.stdout.fileno()
        await until(lambda: len(children(server.pid)) == 1)
        (old,) = children(server.pid)
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 8192)
        await request_all(path)
        server.send_signal(signal.SIGHUP)
        await until(lambda: old not in children(server.pid))
        await request_all(path)
        before, after = read_all(pipe), b""
        async with session(path) as client, client.get("/livez?last"):
            pass
        os.set_blocking(pipe, True)
        while b"?last" not in after:
            after += os.read(pipe, PIPE_SIZE)
    assert all(line["event"] for line in json_lines(before.decode()))
    told = [line["event"] for line in json_lines(after.decode()) if line["level"] == "warning"]
    assert told[0].endswith(" lines dropped: the log was not read")
