"""gunicorn's configuration: ``gunicorn --config deploy/gunicorn.conf.py``, from the project's folder.

The master keeps running when a release replaces the files that it was started from. So it imports
neither the project nor its dependencies: a worker that starts later would mix old and new modules.
"""

import asyncio
import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryFile

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

# % filter replace("package_name", cookiecutter.package_name)
PACKAGE = "package_name"


# % endfilter
def run(module: str, *arguments: str, stdout: int | None = None) -> bytes:
    """Run a module of the project, and return what it writes to a pipe.

    Raises SystemExit with its status if it fails.
    """
    command = [sys.executable, "-m", f"{PACKAGE}.{module}", *arguments]
    done = subprocess.run(command, stdout=stdout, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


values = json.loads(run("deployment", stdout=subprocess.PIPE))

wsgi_app = f"{PACKAGE}.server:make_runner"
bind = values["bind"]
# One event loop fills one core. Two at least, so that one serves while the other is replaced.
workers = values["workers"]
# Seconds after which a worker whose event loop is blocked is killed and replaced.
timeout = values["timeout"]
graceful_timeout = values["graceful_timeout"]
# Replacing workers hides leaks and closes WebSockets, so it is off; not all at once when it is on.
max_requests = values["max_requests"]
max_requests_jitter = max_requests // 10
# It would be opened in the home directory, which a service user may not have.
control_socket_disable = True

# Where deploy/serve.py reads which workers are ready.
READY = int(os.environ.get("READY_FD", "-1"))
TIME_FOR_A_STACK = 2
"""Seconds from SIGABRT to SIGKILL, for a worker that hangs, on a busy machine."""
_TERMINATING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class Lines(logging.Formatter):
    """The lines of the master, and of workers until the project logs: as those of logs.py."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object; in development text."""
        stack = getattr(record, "stack", "")
        if not values["json"]:
            return "\n".join(filter(None, [super().format(record), stack]))
        line = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | ({"stack": stack} if stack else {}))


def dropped(number: int) -> bytes:
    """Return the line that tells how many were not written."""
    text = f"{number} lines dropped: the log was not read"
    record = logging.makeLogRecord({"levelname": "WARNING", "msg": text})
    return f"{lines.format(record)}\n".encode()


lines = Lines("%(asctime)s [%(levelname)s] %(message)s")
# It has no name by which a worker would find it in place of the project's own.
(package,) = find_spec(PACKAGE).submodule_search_locations
output = run_path(str(Path(package, "output.py")))["Output"](sys.stdout, dropped)
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": lambda: lines}},
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "stream": output, "formatter": "lines"}
    },
    "root": {"handlers": ["stdout"], "level": values["log_level"]},
    "loggers": {"gunicorn.error": {"handlers": [], "propagate": True}},
}


class AiohttpWorker(Worker):
    """A worker as the master knows it. In its own process it becomes one of aiohttp's."""

    @property
    def aborted(self) -> bool:
        """Whether the master has sent SIGABRT; the next time it sends SIGKILL."""
        return self._aborted

    @aborted.setter
    def aborted(self, value: bool) -> None:
        self._aborted = value
        if value:  # any signal wakes the master, even before this worker has written its stack
            heard = time.monotonic() - self.cfg.timeout + TIME_FOR_A_STACK
            os.utime(self.tmp.fileno(), (heard, heard))

    def init_process(self) -> None:
        """Import aiohttp and the project, and become an aiohttp worker."""
        # uvloop would close gunicorn's own kind of sockets twice, and gunicorn log an error.
        self.sockets = [listener.sock for listener in self.sockets]
        # uvloop's event loop costs less CPU time than asyncio's; it is not there on every platform.
        name = "GunicornUVLoopWebWorker" if find_spec("uvloop") else "GunicornWebWorker"
        kind = getattr(import_module("aiohttp.worker"), name)
        made = kind(self.age, self.ppid, self.sockets, self.app, self.timeout, self.cfg, self.log)
        made.tmp.close()  # the master looks at the one that it has made
        self.__class__, self.__dict__ = kind, vars(made) | vars(self)
        self.init_process()


worker_class = AiohttpWorker


def on_starting(arbiter: Arbiter) -> None:
    """Look at the addresses that options have set; the configuration's own have been."""
    # % if cookiecutter.database == "postgresql"
    # Workers that wait for the database are killed by their timeout.
    run("database.wait_for_postgresql")
    # % endif
    if arbiter.cfg.bind != bind.split(","):
        run("deployment", "check", *arbiter.cfg.bind)


def pre_fork(_arbiter: Arbiter, worker: Worker) -> None:
    """Give the worker a file for its stack, in case it hangs or crashes."""
    worker.stack = TemporaryFile()  # noqa: SIM115 # child_exit closes it


def child_exit(arbiter: Arbiter, worker: Worker) -> None:
    """Log where a worker was when it was killed by its timeout, or crashed."""
    with worker.stack as file:
        file.seek(0)
        dump = file.read().decode(errors="replace")
    if dump:
        frames = dump.partition("Current thread")[2].partition("\n\n")[0].splitlines()[1:]
        place = frames[0].strip() if frames else dump.splitlines()[0]
        stack = "\n".join(frames)
        arbiter.log.critical("worker %s was in %s", worker.pid, place, extra={"stack": stack})


def post_fork(_arbiter: Arbiter, _worker: Worker) -> None:
    """Have signals wait until the worker can handle them: one that dies while it boots stops all."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATING)


def worker_exit(_arbiter: Arbiter, worker: Worker) -> None:
    """Log why a worker could not start. gunicorn stops if it is the first worker.

    Otherwise it starts another worker, while the older ones serve: a release may be half installed.
    """
    if worker.booted or worker.pid != os.getpid():  # the master calls this, too
        return
    error = sys.exception()
    if isinstance(error, SystemExit) and isinstance(error.code, str):
        print(error.code, file=sys.stderr, flush=True)
    if worker.age == 1:
        os._exit(Arbiter.WORKER_BOOT_ERROR)
    time.sleep(1)  # or gunicorn would start workers as fast as it can
    os._exit(1)


def tell(worker: Worker, what: str) -> None:
    """Tell serve.py, if that has started gunicorn."""
    if READY < 0:
        return
    try:
        os.write(READY, f"{worker.pid} {what}\n".encode())
    except BlockingIOError:
        pass  # it has enough to read
    except BrokenPipeError:  # it was killed
        if os.getppid() == worker.ppid:
            os.kill(worker.ppid, signal.SIGTERM)


def worker_int(worker: Worker) -> None:
    """Tell when a worker that is to stop does not accept anybody any more: at once."""
    worker.loop.call_later(0.05, tell, worker, "stops")


def post_worker_init(worker: Worker) -> None:
    """Tell serve.py that a worker lives; and the master while it drains, as aiohttp's does not."""
    # At once, as SIGQUIT, and not within a second.
    worker.loop.add_signal_handler(signal.SIGTERM, worker.handle_quit, signal.SIGTERM, None)
    # At once, and wherever it hangs. aiohttp's own handler waits for the event loop, and leaves its
    # tasks behind; what faulthandler calls after it has written the stack need not.
    worker.loop.remove_signal_handler(signal.SIGABRT)
    signal.signal(signal.SIGABRT, lambda *_: os._exit(1))
    faulthandler.enable(worker.stack)

    seconds = graceful_timeout

    def beat() -> None:
        nonlocal seconds
        if worker.booted and worker.alive:  # it is once it listens
            tell(worker, str(worker.cfg.workers))
        if not worker.alive:
            worker.notify()
            seconds -= 1
        if seconds > 0:
            worker.loop.call_later(1 if worker.booted else 0.1, beat)

    def ignore_signals_at_the_end() -> None:
        # The master repeats SIGTERM, for which asyncio prints an error while it closes the event loop.
        (running,) = asyncio.all_tasks()
        running.add_done_callback(lambda _: signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATING))

    worker.loop.call_soon(ignore_signals_at_the_end)
    worker.loop.call_soon(beat)
    worker.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, _TERMINATING)
