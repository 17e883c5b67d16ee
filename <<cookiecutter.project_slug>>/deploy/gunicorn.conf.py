"""Configuration of gunicorn: ``gunicorn --config deploy/gunicorn.conf.py`` in the project's folder.

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
from contextlib import suppress
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
    """Run a module of the project, and return its output if ``stdout`` is a pipe.

    Raises SystemExit with its exit status if it fails.
    """
    command = [sys.executable, "-m", f"{PACKAGE}.{module}", *arguments]
    done = subprocess.run(command, stdout=stdout, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


values = json.loads(run("deployment", stdout=subprocess.PIPE))

wsgi_app = f"{PACKAGE}.server:make_runner"
bind = values["bind"]
# One event loop uses one core. At least two, so that one serves while the other is replaced.
workers = values["workers"]
# Seconds after which a worker with a blocked event loop is killed and replaced.
timeout = values["timeout"]
graceful_timeout = values["graceful_timeout"]
# Off by default: new workers hide leaks and close WebSockets. The jitter spreads the restarts.
max_requests = values["max_requests"]
max_requests_jitter = max_requests // 10
# The socket would be opened in the home directory, which a service user may not have.
control_socket_disable = True

# File descriptor of a pipe, from which deploy/serve.py reads which workers are ready.
READY = int(os.environ.get("READY_FD", "-1"))
TIME_FOR_A_STACK = 2
"""Seconds from SIGABRT to SIGKILL, in which a hung worker writes its stack on a busy machine."""
_TERMINATING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class Lines(logging.Formatter):
    """Formatter like that of logs.py, for the master, and for workers until they set up logging."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object, or text in development."""
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
    """Return the line that reports the number of dropped lines."""
    text = f"{number} lines dropped: the log was not read"
    record = logging.makeLogRecord({"levelname": "WARNING", "msg": text})
    return f"{lines.format(record)}\n".encode()


lines = Lines("%(asctime)s [%(levelname)s] %(message)s")
# Not under its name in sys.modules, where a worker would find it instead of the project's module.
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
    """Worker as the master sees it; in its own process it becomes one of aiohttp's workers."""

    @property
    def aborted(self) -> bool:
        """True if the master has sent SIGABRT; the next time it sends SIGKILL."""
        return self._aborted

    @aborted.setter
    def aborted(self, value: bool) -> None:
        self._aborted = value
        if value:  # any signal wakes the master, even before this worker has written its stack
            heard = time.monotonic() - self.cfg.timeout + TIME_FOR_A_STACK
            with suppress(OSError):  # the file may belong to the user of the workers
                os.utime(self.tmp.fileno(), (heard, heard))

    def init_process(self) -> None:
        """Import aiohttp and the project, and become an aiohttp worker."""
        # uvloop would close gunicorn's socket objects twice, and gunicorn would log an error.
        self.sockets = [listener.sock for listener in self.sockets]
        # uvloop uses less CPU time than asyncio's event loop; not every platform has it.
        name = "GunicornUVLoopWebWorker" if find_spec("uvloop") else "GunicornWebWorker"
        kind = getattr(import_module("aiohttp.worker"), name)
        made = kind(self.age, self.ppid, self.sockets, self.app, self.timeout, self.cfg, self.log)
        made.tmp.close()  # the master checks the one that it created
        self.__class__, self.__dict__ = kind, vars(made) | vars(self)
        self.init_process()


worker_class = AiohttpWorker


def on_starting(arbiter: Arbiter) -> None:
    """Check the addresses that options have set; those of the configuration are checked already."""
    # % if cookiecutter.database == "postgresql"
    # Workers must not wait for the database: their timeout would kill them.
    run("database.wait_for_postgresql")
    # % endif
    if arbiter.cfg.bind != bind.split(","):
        run("deployment", "check", *arbiter.cfg.bind)


def pre_fork(_arbiter: Arbiter, worker: Worker) -> None:
    """Create a file for the worker's stack, in case it hangs or crashes."""
    worker.stack = TemporaryFile()  # noqa: SIM115 # child_exit closes it


def child_exit(arbiter: Arbiter, worker: Worker) -> None:
    """Log the stack of a worker that crashed, or was killed by its timeout."""
    with worker.stack as file:
        file.seek(0)
        dump = file.read().decode(errors="replace")
    if dump:
        frames = dump.partition("Current thread")[2].partition("\n\n")[0].splitlines()[1:]
        place = frames[0].strip() if frames else dump.splitlines()[0]
        stack = "\n".join(frames)
        arbiter.log.critical("worker %s was in %s", worker.pid, place, extra={"stack": stack})


def post_fork(_arbiter: Arbiter, _worker: Worker) -> None:
    """Block signals until the worker can handle them: a worker that dies at boot stops gunicorn."""
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
    time.sleep(1)  # otherwise gunicorn would start workers as fast as it can
    os._exit(1)


def tell(worker: Worker, what: str) -> None:
    """Send a message to serve.py, if it has started gunicorn."""
    if READY < 0:
        return
    try:
        os.write(READY, f"{worker.pid} {what}\n".encode())
    except BlockingIOError:
        pass  # serve.py has enough messages to read
    except BrokenPipeError:  # serve.py was killed
        if os.getppid() == worker.ppid:
            os.kill(worker.ppid, signal.SIGTERM)


def worker_int(worker: Worker) -> None:
    """Notify serve.py that a stopping worker accepts no more connections, from now on."""
    worker.loop.call_later(0.05, tell, worker, "stops")


def post_worker_init(worker: Worker) -> None:
    """Notify serve.py while a worker runs, and the master while it drains (aiohttp's does not)."""
    # Stop at once, as with SIGQUIT, and not within a second.
    worker.loop.add_signal_handler(signal.SIGTERM, worker.handle_quit, signal.SIGTERM, None)
    # Exit at once, wherever the worker hangs. aiohttp's own handler waits for the event loop, and
    # leaves its tasks behind; this one, which faulthandler calls after writing the stack, does not.
    worker.loop.remove_signal_handler(signal.SIGABRT)
    signal.signal(signal.SIGABRT, lambda *_: os._exit(1))
    faulthandler.enable(worker.stack)

    seconds = graceful_timeout

    def beat() -> None:
        nonlocal seconds
        if worker.booted and worker.alive:  # booted: it listens
            tell(worker, str(worker.cfg.workers))
        if not worker.alive:
            worker.notify()
            seconds -= 1
        if seconds > 0:
            worker.loop.call_later(1 if worker.booted else 0.1, beat)

    def ignore_signals_at_the_end() -> None:
        # The master repeats SIGTERM; asyncio prints an error for it while the event loop is closed.
        (running,) = asyncio.all_tasks()
        running.add_done_callback(lambda _: signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATING))

    worker.loop.call_soon(ignore_signals_at_the_end)
    worker.loop.call_soon(beat)
    worker.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, _TERMINATING)
