"""gunicorn's configuration: ``gunicorn --config deploy/gunicorn.conf.py``, from the project's folder."""

import asyncio
import faulthandler
import os
import signal
from importlib.util import find_spec
from tempfile import TemporaryFile

from aiohttp.worker import GunicornWebWorker
from gunicorn.arbiter import Arbiter
from gunicorn.systemd import sd_notify

# % filter replace("package_name", cookiecutter.package_name)
from package_name.deployment import Deployment, check_reach
from package_name.environment import read
from package_name.logs import logging_config
from package_name.settings import load_settings

# Both are read here too, so that wrong ones stop the master with one message.
settings = load_settings()
deployment = read(Deployment)
check_reach(settings, deployment.address)

wsgi_app = "package_name.server:make_runner"
# % endfilter
# A platform gives PORT; a proxy on the same host is better reached by a Unix socket, by BIND.
bind = deployment.address
# One event loop fills one core. Two at least, so that one serves while the other is replaced.
workers = deployment.web_concurrency
# uvloop's event loop costs less CPU time than asyncio's own; it is not there on every platform.
worker_class = (
    "aiohttp.GunicornUVLoopWebWorker" if find_spec("uvloop") else "aiohttp.GunicornWebWorker"
)
# Seconds after which a worker whose event loop is blocked is killed and replaced.
timeout = deployment.worker_timeout
# The worker waits for handlers, for shielded work and for periodic work; the master, longer.
graceful_timeout = 3 * int(settings.graceful_timeout) + 5
# Replacing workers hides leaks and closes WebSockets, so it is off; not all at once when it is on.
max_requests = deployment.max_requests
max_requests_jitter = max_requests // 10
# It would be opened in the home directory, which a service user may not have.
control_socket_disable = True
# The master's lines look like the workers', who write the access log themselves.
logconfig_dict = logging_config(level=settings.log_level, json=not settings.development)

# The master would tell systemd that it is ready before a worker is; so the workers tell.
NOTIFY_SOCKET = os.environ.setdefault("WORKER_NOTIFY_SOCKET", os.environ.pop("NOTIFY_SOCKET", ""))
_TERMINATING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


# % filter replace("package_name", cookiecutter.package_name)
# % if cookiecutter.database == "postgresql"
async def _open_database() -> None:
    from package_name.database.postgresql import make_engine, open_database

    engine = make_engine(settings)
    await open_database(engine, settings)
    await engine.dispose()


# % endif
async def _open_bus() -> None:
    from package_name.live import make_bus, open_bus

    bus = make_bus(settings)
    await open_bus(bus)
    await bus.close()


def on_starting(arbiter: Arbiter) -> None:
    """Open what workers open at their start: a worker that cannot start is started again for ever."""
    check_reach(settings, *arbiter.cfg.bind)  # which options may have set
    # % if cookiecutter.database == "postgresql"
    asyncio.run(_open_database())
    # % endif
    asyncio.run(_open_bus())


# % endfilter
def pre_fork(_arbiter: Arbiter, worker: GunicornWebWorker) -> None:
    """Give the worker a file for its stack, in case it hangs or crashes."""
    worker.stack = TemporaryFile()  # noqa: SIM115 # child_exit closes it


def child_exit(arbiter: Arbiter, worker: GunicornWebWorker) -> None:
    """Log where a worker was when it was killed by its timeout, or crashed."""
    with worker.stack as file:
        file.seek(0)
        dump = file.read().decode(errors="replace")
    if dump:
        _, *frames = dump.partition("Current thread")[2].partition("\n\n")[0].splitlines()
        place = frames[0].strip() if frames else dump.splitlines()[0]
        stack = "\n".join(frames)
        arbiter.log.critical("worker %s was in %s", worker.pid, place, extra={"stack": stack})


def post_fork(_arbiter: Arbiter, _worker: GunicornWebWorker) -> None:
    """Have signals wait until the worker can handle them: one that dies while it boots stops all."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATING)


def post_worker_init(worker: GunicornWebWorker) -> None:
    """Tell systemd that a worker lives; and the master while it drains, as aiohttp's worker does not."""
    # At once, and wherever it hangs. aiohttp's own handler waits for the event loop, and leaves its
    # tasks behind; what faulthandler calls after it has written the stack need not.
    worker.loop.remove_signal_handler(signal.SIGABRT)
    signal.signal(signal.SIGABRT, lambda *_: os._exit(1))
    faulthandler.enable(worker.stack)

    seconds = graceful_timeout
    if NOTIFY_SOCKET:
        os.environ["NOTIFY_SOCKET"] = NOTIFY_SOCKET

    def beat() -> None:
        nonlocal seconds
        if worker.booted:  # which it is once it listens
            sd_notify("READY=1\nWATCHDOG=1", worker.log)
        if not worker.alive:
            worker.notify()
            seconds -= 1
        if seconds > 0:
            worker.loop.call_later(1 if worker.booted else 0.1, beat)

    worker.loop.call_soon(beat)
    worker.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, _TERMINATING)
