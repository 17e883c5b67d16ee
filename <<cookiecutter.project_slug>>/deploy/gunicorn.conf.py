"""gunicorn's configuration: ``gunicorn --config deploy/gunicorn.conf.py``, from the project's folder."""

import os
import signal

from aiohttp.worker import GunicornWebWorker

# % filter replace("package_name", cookiecutter.package_name)
from package_name.logs import logging_config
from package_name.settings import load_settings

# The settings are read here too, so that wrong ones stop the master with one message.
settings = load_settings()

wsgi_app = "package_name.server:make_runner"
# % endfilter
bind = f"127.0.0.1:{os.environ.get('PORT', '8080')}"
worker_class = "aiohttp.GunicornUVLoopWebWorker"
# The worker waits for handlers, for shielded work and for periodic work; the master, longer.
graceful_timeout = 3 * int(settings.graceful_timeout) + 5
# It would be opened in the home directory, which a service user may not have.
control_socket_disable = True
# The master's lines look like the workers'.
logconfig_dict = logging_config(level=settings.log_level, json=not settings.development)


def post_worker_init(worker: GunicornWebWorker) -> None:
    """Tell the master that the worker lives while it drains, when aiohttp's worker does not."""
    seconds = graceful_timeout

    def beat() -> None:
        nonlocal seconds
        if not worker.alive:
            worker.notify()
            seconds -= 1
        if seconds > 0:
            worker.loop.call_later(1, beat)

    worker.loop.call_soon(beat)
    # uvloop looks at a signal that came while the worker booted when another one comes: this one.
    worker.loop.call_soon(signal.raise_signal, signal.SIGWINCH)
