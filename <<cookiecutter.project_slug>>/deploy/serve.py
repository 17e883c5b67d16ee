"""Run gunicorn, and replace its master and workers on request without losing a request.

``serve.py SOCKET`` listens on BIND, or on the sockets that systemd passes, and runs gunicorn there.
SIGHUP, or ``serve.py --reload SOCKET``, starts a second gunicorn, and stops the first when all
workers of the second are ready. If they do not become ready, the first continues to serve.

It keeps running across releases, so it imports only the standard library.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

# % filter replace("package_name", cookiecutter.package_name)
VALUES = [sys.executable, "-m", "package_name.deployment"]
# % endfilter
CONFIGURATION = str(Path(__file__).with_name("gunicorn.conf.py"))
GUNICORN = [sys.executable, "-m", "gunicorn", "--config", CONFIGURATION]
FIRST = 3
"""The file descriptor of the first socket, as systemd numbers them."""
BACKLOG = 2048
"""Maximum number of connections that wait to be accepted; the same as in web/shutdown.py."""
PATIENCE = 120
"""Seconds within which the workers of a second gunicorn must be ready."""
LEAVE = 10
"""Seconds within which the workers of the first gunicorn must stop accepting connections."""
SHOWN = 40
"""Number of log lines that are shown if gunicorn does not become ready."""
STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


def bound(address: str) -> socket.socket:
    """Return a socket that listens on ``unix:path`` or ``host:port``. Raises OSError."""
    if address.startswith("unix:"):
        return bound_to_path(Path(address.removeprefix("unix:")), mask=0)  # its folder is private
    host, _, port = address.rpartition(":")
    six = ":" in host
    family = socket.AF_INET6 if six else socket.AF_INET
    place = (host.strip("[]"), int(port))
    return socket.create_server(place, family=family, backlog=BACKLOG, dualstack_ipv6=six)


def bound_to_path(path: Path, mask: int) -> socket.socket:
    """Return a socket that listens on a path. It replaces a socket from an earlier run."""
    if path.is_socket():
        path.unlink()
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(mask)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    listening.listen(BACKLOG)
    return listening


def bound_as_set() -> list[socket.socket]:
    """Return the sockets of BIND, numbered from FIRST. Raises SystemExit if opening one fails."""
    done = subprocess.run(VALUES, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    numbers = []
    for number, address in enumerate(json.loads(done.stdout)["bind"].split(","), FIRST):
        try:
            made = bound(address).detach()
        except OSError as error:
            raise SystemExit(f"Cannot listen on {address}: {error.strerror}") from None
        if made != number:
            os.dup2(made, number)
            os.close(made)
        os.set_inheritable(number, True)
        numbers.append(number)
    return [socket.socket(fileno=number) for number in numbers]


class Output:
    """Standard output or error: threads copy whole lines from pipes to it."""

    def __init__(self, target: int) -> None:
        """Write to a file descriptor."""
        self._target = target
        self._lock = threading.Lock()

    def take(self, source: int, shown: deque[str]) -> threading.Thread:
        """Start a thread that copies a pipe to the end, and keeps the last lines in ``shown``."""
        thread = threading.Thread(target=self._pass_on, args=(source, shown), daemon=True)
        thread.start()
        return thread

    def _pass_on(self, source: int, shown: deque[str]) -> None:
        rest = b""
        while data := os.read(source, 1024**2):
            whole, end, rest = (rest + data).rpartition(b"\n")
            shown.extend(whole.decode(errors="replace").splitlines()[-SHOWN:])
            self._write(whole + end)
            time.sleep(0.01)  # many lines at once cost less
        self._write(rest)
        os.close(source)

    def _write(self, data: bytes) -> None:
        with self._lock, suppress(OSError):  # the reader may have closed it
            while data:
                data = data[os.write(self._target, data) :]


OUTPUT, ERRORS = Output(1), Output(2)


class Gunicorn:
    """A gunicorn process, and its workers that are ready."""

    def __init__(self, sockets: int, asker: socket.socket | None) -> None:
        """Start gunicorn. The result is sent to the connection ``asker``, if there is one."""
        self.asker = asker
        self.began = time.monotonic()
        self.workers: set[str] = set()
        self.ready = False
        self.shown: deque[str] = deque(maxlen=SHOWN)
        (output, its_output), (errors, its_errors) = os.pipe(), os.pipe()
        self.words, its_words = os.pipe()
        os.set_inheritable(its_words, True)
        os.set_blocking(its_words, False)
        # With LISTEN_PID gunicorn treats the sockets as systemd's, and does not remove their paths.
        self.pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *GUNICORN],
            {**os.environ, "LISTEN_FDS": str(sockets), "READY_FD": str(its_words)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, its_output, 1),
                (os.POSIX_SPAWN_DUP2, its_errors, 2),
            ],
        )
        for end in (its_output, its_errors, its_words):
            os.close(end)
        self.readers = [OUTPUT.take(output, self.shown), ERRORS.take(errors, self.shown)]

    def hear(self) -> None:
        """Read the messages of workers: the number of workers, sent every second, or "stops"."""
        for line in os.read(self.words, 65536).decode().splitlines():
            worker, _, what = line.partition(" ")
            if what == "stops":
                self.workers.discard(worker)
            else:
                self.workers.add(worker)
                self.ready |= len(self.workers) >= int(what)

    def accepts(self) -> bool:
        """Return True if a worker may still accept connections; killed workers send no message."""
        return any(Path("/proc", worker).exists() for worker in self.workers)

    def answer(self, status: int, text: str) -> None:
        """Send the result of a reload to the client that requested it, and close its connection."""
        if self.asker:
            with self.asker, suppress(OSError):
                self.asker.sendall(f"{status}\n{text}\n".encode())


class Server:
    """The listening sockets, and the gunicorn processes: current, starting and stopping."""

    def __init__(self, path: Path) -> None:
        """Open the sockets, and install signal handlers. Raises SystemExit if that fails."""
        # gunicorn would report itself as ready to systemd before its workers are.
        self.systemd = os.environ.pop("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self.paths = [path]
        if os.environ.pop("LISTEN_PID", "") == str(os.getpid()):
            numbers = range(FIRST, FIRST + int(os.environ["LISTEN_FDS"]))
            self.sockets = [socket.socket(fileno=number) for number in numbers]
        else:
            self.sockets = bound_as_set()
            names = [each.getsockname() for each in self.sockets]
            self.paths += [Path(name) for name in names if isinstance(name, str)]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.control = bound_to_path(path, mask=0o177)
        own, self.own = os.pipe()
        os.set_blocking(self.own, False)
        self.reader = OUTPUT.take(own, deque(maxlen=0))
        self.members: dict[int, Gunicorn] = {}
        self.current: Gunicorn | None = None
        self.coming: Gunicorn | None = None
        self.leaving: Gunicorn | None = None
        self.since = 0.0
        self.settled = True
        self.again = self.stopping = False
        self.status = 0
        self.wakeup, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        for number in (*STOP, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def log(self, event: str, level: str = "info") -> None:
        """Write a log line in gunicorn's format."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        line = {"event": event, "level": level, "logger": "serve", "timestamp": now}
        with suppress(BlockingIOError):
            os.write(self.own, f"{json.dumps(line)}\n".encode())

    def tell_systemd(self, state: str) -> None:
        """Send a state to systemd, if it started this process (sd_notify(3))."""
        if self.systemd:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection, suppress(OSError):
                connection.sendto(state.encode(), self.systemd)

    def start(self, asker: socket.socket | None = None) -> None:
        """Start another gunicorn."""
        self.again = False
        self.coming = Gunicorn(len(self.sockets), asker)
        self.members[self.coming.pid] = self.coming

    def take_over(self, coming: Gunicorn) -> None:
        """Make the new gunicorn the current one, and stop the previous one."""
        if self.current:
            os.kill(self.current.pid, signal.SIGTERM)
        self.leaving, self.current, self.coming = self.current, coming, None
        self.since, self.settled = time.monotonic(), False
        self.tell_systemd("READY=1")

    def settle(self, current: Gunicorn) -> None:
        """Report success once the previous gunicorn accepts no more connections."""
        if self.leaving and self.leaving.accepts() and time.monotonic() < self.since + LEAVE:
            return
        self.settled = True
        seconds = self.since - current.began
        text = f"all workers ({len(current.workers)}) are ready after {seconds:.1f} s"
        self.log(text)
        current.answer(0, text)

    def fail(self, coming: Gunicorn, reason: str) -> None:
        """Report that the new gunicorn failed. The current one, if any, continues to serve."""
        self.coming = None
        for reader in coming.readers:
            reader.join(1)
        self.log(reason, "error")
        coming.answer(1, "\n".join([*coming.shown, reason]))

    def ended(self, member: Gunicorn, status: int) -> None:
        """Handle the end of a gunicorn: replace it if it ended unexpectedly."""
        os.close(member.words)
        if self.stopping or member not in (self.current, self.coming):
            return
        self.status = status
        reason = f"gunicorn ended with status {status}"
        if member is self.coming:
            self.fail(member, f"{reason} before it was ready")
        else:
            self.log(reason, "error")
            member.answer(1, reason)
            self.current, self.settled = None, True
            self.again = self.coming is None

    def listen_to(self, member: Gunicorn) -> None:
        """Handle messages of the workers of a gunicorn."""
        member.hear()
        if member is self.coming and member.ready and not self.stopping:
            self.take_over(member)
        if member is self.current:
            self.tell_systemd("WATCHDOG=1")

    def close(self) -> None:
        """Close the listening sockets."""
        for path in self.paths:
            path.unlink(missing_ok=True)
        self.paths = []
        for listening in (*self.sockets, self.control):
            listening.close()

    def stop(self, number: int) -> None:
        """Accept no more connections, and forward the signal to all gunicorns."""
        self.stopping, self.status = True, 0
        self.close()
        for pid, member in self.members.items():
            os.kill(pid, number)
            member.answer(1, "it was stopped")

    def reap(self) -> None:
        """Reap ended child processes, including orphans if this is process 1."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if member := self.members.pop(ended[0], None):
                    self.ended(member, os.waitstatus_to_exitcode(ended[1]))

    def serve(self) -> int:
        """Serve until a signal arrives, or gunicorn cannot be started. Return the exit status."""
        self.again = True
        while self.members or (self.again and not self.stopping):
            idle = self.settled and not (self.coming or self.stopping)
            if idle and self.again:
                self.start()
                idle = False
            talking = {each.words: each for each in self.members.values()}
            waiting = [self.wakeup, *talking, *([self.control.fileno()] if idle else [])]
            readable, _, _ = select.select(waiting, (), (), 1)
            for words in talking.keys() & {*readable}:
                self.listen_to(talking[words])
            if idle and self.control.fileno() in readable:
                asker, _ = self.control.accept()
                asker.settimeout(5)  # the client may not read
                self.start(asker)
            for number in os.read(self.wakeup, 512) if self.wakeup in readable else b"":
                if number in STOP:
                    self.stop(number)
                elif number == signal.SIGHUP:
                    self.again = True
            if self.coming and self.current and time.monotonic() > self.coming.began + PATIENCE:
                os.kill(self.coming.pid, signal.SIGTERM)
                self.fail(self.coming, f"gunicorn was not ready after {PATIENCE} s")
            self.reap()
            if self.current and not (self.settled or self.stopping):
                self.settle(self.current)
        self.close()
        os.close(self.own)
        for thread in {*threading.enumerate()} - {threading.main_thread()}:
            thread.join(5)  # standard output may have no reader
        return self.status if self.status >= 0 else 128 - self.status


def reload(path: str) -> None:
    """Make a running serve.py replace gunicorn. Raises SystemExit if that fails."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            raise SystemExit(f"serve.py is not running: {path}: {error.strerror}") from None
        with connection.makefile(encoding="utf-8", errors="replace") as stream:
            status, text = stream.readline().strip(), stream.read().strip()
    # Log lines may contain control characters, which a terminal would interpret.
    text = "".join(each if each.isprintable() or each == "\n" else "?" for each in text)
    if status != "0":
        raise SystemExit(text or "serve.py ended before it replied")
    print(text)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--reload", path]:
            reload(path)
        case [path]:
            sys.exit(Server(Path(path)).serve())
        case _:
            sys.exit(__doc__)
