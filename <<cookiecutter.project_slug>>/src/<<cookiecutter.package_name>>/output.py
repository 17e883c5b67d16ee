"""Standard output for the log, without blocking: a stalled reader would stop all processes."""

import fcntl
import io
import os
import select
import socket
import stat
import struct
import termios
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO

PIPE_SIZE: Final = 1024**2
"""Capacity of a pipe, in bytes: Linux's limit. The default, 64 KiB, is 200 access log lines."""
_DEFAULT_PIPE_SIZE: Final = 64 * 1024


def _open_again(descriptor: int) -> int:
    """Return a new descriptor of the same pipe or terminal, whose writes do not block.

    It is opened again, because the mode of ``descriptor`` itself is shared with other programs. If
    this is forbidden, a service manager created it for this service only.
    """
    try:
        return os.open(f"/dev/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        os.set_blocking(descriptor, False)
        return os.dup(descriptor)


def _pipe(descriptor: int) -> int:
    with suppress(OSError):
        if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) == _DEFAULT_PIPE_SIZE:
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return _open_again(descriptor)


def _write_to_pipe(pipe: int, data: bytes) -> int:
    """Write all data, or nothing if it does not fit, and return the number of bytes.

    Otherwise lines of other processes could come in between. The kernel prevents this for up to
    PIPE_BUF bytes. Small lines may leave half of each page unused.
    """
    if len(data) > select.PIPE_BUF:
        (used,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
        if used + len(data) > max(fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) // 2, len(data)):
            return 0
    return os.write(pipe, data)


def _write_to_terminal(descriptor: int, data: bytes) -> int:
    """Write as many bytes as fit, and return their number.

    The descriptor does not stay open: a terminal waits until all programs have closed it.
    """
    terminal = _open_again(descriptor)
    try:
        return os.write(terminal, data)
    finally:
        os.close(terminal)


class Output:
    """Stream of whole lines, which drops a line if the pipe, socket or terminal is full.

    ``notice(number)`` returns a line that reports the number of dropped lines. It is written before
    the next line that is accepted.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], bytes]) -> None:
        """Write to the descriptor of ``stream``, or to a new one for the same pipe."""
        self._send = self._sender(stream)
        self._notice = notice
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._rest = b""
        self._dropped = 0

    def _sender(self, stream: TextIO) -> Callable[[bytes], int]:
        """Return a function that sends bytes and returns their number, or raises OSError."""
        try:
            descriptor = stream.fileno()
        except io.UnsupportedOperation:  # in tests
            return lambda data: stream.buffer.write(data)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            connection = socket.socket(fileno=os.dup(descriptor))
            weakref.finalize(self, connection.close).atexit = False  # other code logs at exit
            return lambda data: connection.send(data, socket.MSG_DONTWAIT)
        if stat.S_ISFIFO(mode):
            pipe = _pipe(descriptor)
            weakref.finalize(self, os.close, pipe).atexit = False
            return lambda data: _write_to_pipe(pipe, data)
        if os.isatty(descriptor):
            return lambda data: _write_to_terminal(descriptor, data)
        return lambda data: os.write(descriptor, data)

    def write(self, line: str | bytes) -> None:
        """Write a line, or drop it."""
        data = line.encode(errors="backslashreplace") if isinstance(line, str) else line
        with self._lock:
            if self._process != os.getpid():  # the parent sends the rest
                self._process, self._rest, self._dropped = os.getpid(), b"", 0
            if self._dropped:
                data = self._notice(self._dropped) + data
            data = self._rest + data
            try:
                sent = self._send(data)
            except OSError:
                sent = 0
            if sent > len(self._rest):
                self._rest, self._dropped = data[sent:], 0
            else:
                self._rest, self._dropped = self._rest[sent:], self._dropped + 1

    def flush(self) -> None:
        """Do nothing, because lines are written immediately."""
