"""Compare the performance of the baked application with that of the smallest one: ``make bench``.

In each round, every server in turn gets the same load. The medians of the ratios within a round
are printed, with the lowest and highest. A slow result is not a failure.
"""

import json
import os
import re
import runpy
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

BENCH = Path(__file__).resolve().parent
ROUNDS = 14
SECONDS = 1
LOAD = ["wrk", "--threads", "1", "--connections", "12", "--duration"]
BAKES = 5
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Variant:
    """A server to measure: its title, its command line, and its results by round."""

    title: str
    arguments: list[str]
    """Arguments of gunicorn, except the address and the number of workers."""
    environment: dict[str, str] = field(default_factory=dict)
    workers: int = 1
    path: str = "/"
    url: str = ""
    worker: int = 0
    """The worker's process id."""
    rates: list[float] = field(default_factory=list)
    """Requests per second."""
    costs: list[float] = field(default_factory=list)
    """CPU time of the worker per request, in microseconds."""


def baked(title: str, *without: str) -> Variant:
    """Return the baked application without the named layers."""
    arguments = ["--config", "deploy/gunicorn.conf.py"]
    if not without:
        return Variant(title, arguments)
    return Variant(title, [*arguments, "layers:make_runner"], {"BENCH_WITHOUT": ",".join(without)})


def smallest(title: str, path: str = "/", *, log: bool) -> Variant:
    """Return the smallest application, with or without aiohttp's default access log."""
    arguments = ["--worker-class", "aiohttp.GunicornUVLoopWebWorker", "--no-control-socket"]
    if log:
        arguments += ["--access-logfile", "-"]
    return Variant(title, [*arguments, "reference:app"], path=path)


REFERENCE = smallest("smallest application", log=True)
BAKED = baked("baked application")
# Each has one layer less than the one before it; the key is the name of that layer.
SMALLEST_LAYERS = {
    "access log": smallest("  no access log", log=False),
    "rendering the page": smallest("  and a constant page", "/text", log=False),
}
BAKED_LAYERS = {
    "access log": baked("  no access log", "log"),
    "security and caching headers": baked("  and no headers", "log", "headers"),
    "rendering the page": baked("  and a constant page", "log", "headers", "page"),
    "request context, error pages": baked(
        "  and no middlewares", "log", "headers", "page", "middlewares"
    ),
}
VARIANTS = [REFERENCE, *SMALLEST_LAYERS.values(), BAKED, *BAKED_LAYERS.values()]


def run(command: Sequence[str | Path], **options: Any) -> str:
    """Run a program and return its output. Raises SystemExit, with that output, if it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return str(done.stdout)


def seconds(command: Sequence[str | Path], folder: Path) -> float:
    """Return the seconds that a program takes, with ``folder`` for its temporary files."""
    start = time.perf_counter()
    run(command, env=os.environ | {"TMPDIR": str(folder)})
    return time.perf_counter() - start


def bake(folder: Path) -> Path:
    """Bake the default project several times, print the time taken, and return the last project."""
    start_up = [sys.executable, "-c", "import cookiecutter.main"]
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    pairs = []
    for number in range(BAKES):
        output = folder / str(number)
        baking = [*command, "--output-dir", str(output), str(BENCH.parent)]
        pairs.append((seconds(baking, folder), seconds(start_up, folder)))
    (project,) = output.iterdir()
    print(
        f"Bake: {median(bake for bake, _ in pairs):.2f} s,"
        f" {spread([bake / start for bake, start in pairs])} times"
        f" `import cookiecutter.main` ({median(start for _, start in pairs):.2f} s);"
        f" median of {BAKES} (lowest to highest)"
    )
    return project


def spread(ratios: Sequence[float]) -> str:
    """Return the median, the lowest and the highest of ratios, as text."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


@contextmanager
def serving(
    variant: Variant, project: Path, log: Path, environment: dict[str, str]
) -> Iterator[None]:
    """Serve a variant, which logs to a file, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    variant.url = f"http://{address}{variant.path}"
    command = [str(project / ".venv/bin/gunicorn"), *variant.arguments, "--bind", address]
    with log.open("wb") as output:
        master = subprocess.Popen(
            [*command, "--workers", str(variant.workers)],
            cwd=project,
            env=environment | variant.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,  # only this program gets Ctrl-C; it then stops the servers
        )
    try:
        wait_for(variant, master, log)
        variant.worker, *_ = children(master.pid)
        yield
    finally:
        master.terminate()
        try:
            master.wait(10)
        except subprocess.TimeoutExpired:
            workers = children(master.pid)
            master.kill()
            master.wait()
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)


def children(process: int) -> list[int]:
    """Return the ids of a process's children."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in text.split()]


def wait_for(variant: Variant, master: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server responds. Raises SystemExit, with its log, if it does not."""
    deadline = time.monotonic() + 20
    while master.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            get(variant.url)
            return
        time.sleep(0.05)
    sys.exit(f"{variant.title.strip()} does not answer:\n{log.read_text()}")


def get(url: str) -> bytes:
    """Return a page. Raises OSError if the connection fails or the status is an error."""
    with DIRECT.open(url, timeout=5) as response:
        return bytes(response.read())


def cpu_time(process: int) -> float:
    """Return the CPU time that a process has used in all its threads, in seconds.

    The clock's id is computed as in the C function clock_getcpuclockid(3) of Linux; /proc has the
    same time in steps of 10 ms.
    """
    return time.clock_gettime((~process << 3) | 2)


def load(variant: Variant, duration: int) -> tuple[float, float]:
    """Load a server; return requests per second and microseconds of CPU time per request."""
    before = cpu_time(variant.worker)
    output = run([*LOAD, f"{duration}s", variant.url])
    used = cpu_time(variant.worker) - before
    if "Socket errors" in output or "Non-2xx" in output:
        sys.exit(f"{variant.title.strip()} did not answer every request:\n{output}")
    (requests,) = map(int, re.findall(r"(\d+) requests in", output))
    (rate,) = map(float, re.findall(r"Requests/sec: *([\d.]+)", output))
    return rate, used / requests * 1e6


def measure(variants: list[Variant]) -> None:
    """Load every server in turn, in several rounds, each in another order."""
    for variant in variants:
        load(variant, SECONDS)  # not counted
    for number in range(ROUNDS):
        first = number % len(variants)
        for variant in variants[first:] + variants[:first]:
            rate, cost = load(variant, SECONDS)
            variant.rates.append(rate)
            variant.costs.append(cost)


def ratios(figures: list[float], others: list[float]) -> list[float]:
    """Return the ratio of two results in each round."""
    return [figure / other for figure, other in zip(figures, others, strict=True)]


def print_figures(size: int) -> None:
    """Print every server's results, as ratios to the smallest application in the same round."""
    print(
        f"\nOne worker, a page of {size} bytes, {ROUNDS} rounds of {SECONDS} s;"
        " medians (lowest to highest).\nRatios are to the smallest application, more is better;"
        " CPU is the worker's time per request.\n"
    )
    print(f"{'':24}{'req/s':>8}  {'ratio':22}{'CPU us':>8}  ratio")
    for variant in VARIANTS:
        rates = ratios(variant.rates, REFERENCE.rates)
        costs = ratios(REFERENCE.costs, variant.costs)
        print(
            f"{variant.title:24}{median(variant.rates):8.0f}  {spread(rates):22}"
            f"{median(variant.costs):8.0f}  {spread(costs)}"
        )


def print_layers(whole: Variant, layers: dict[str, Variant]) -> None:
    """Print the cost of each layer, and of the rest."""
    print(f"\n{'What the ' + whole.title + ' spends':44}% of the smallest one's request")
    for name, less in [*layers.items(), ("the rest: HTTP, routing, the response", None)]:
        left = less.costs if less else [0.0] * ROUNDS
        costs = [
            (cost - other) / smallest * 100
            for cost, other, smallest in zip(whole.costs, left, REFERENCE.costs, strict=True)
        ]
        print(f"  {name:42}{median(costs):5.1f} ({min(costs):.1f} to {max(costs):.1f})")
        whole = less or whole


def print_latency(project: Path, folder: Path, environment: dict[str, str]) -> None:
    """Print the latency of messages to WebSockets, with one worker and with two."""
    python = project / ".venv/bin/python"
    config = ["--config", "deploy/gunicorn.conf.py", "publisher:make_runner"]
    many = {"MAX_WEBSOCKETS": "1000", "BUS_URL": f"local:{folder}/bus"}
    smallest = ["--worker-class", "aiohttp.GunicornUVLoopWebWorker", "--no-control-socket"]
    servers = {
        "smallest, one worker": Variant("smallest", [*smallest, "broadcast:app"]),
        "baked, one worker": Variant("baked", config, many | {"BUS_URL": f"local:{folder}/one"}),
        "baked, two workers": Variant("baked", config, many, workers=2),
    }
    with ExitStack() as running:
        arguments = []
        for number, (title, variant) in enumerate(servers.items()):
            log = folder / f"live-{number}.log"
            running.enter_context(serving(variant, project, log, environment))
            arguments += [title, variant.url.removesuffix(variant.path)]
        found = json.loads(run([python, BENCH / "listeners.py", *arguments], env=environment))
    print(
        f"\n{'A message to 500 WebSockets':28}{'median ms':>10}{'ratio':>7}{'99 % ms':>10}{'ratio':>7}"
    )
    first: list[float] = []
    for title, latencies in found.items():
        figures = [median(latencies), quantiles(latencies, n=100)[98]]
        first = first or figures
        columns = (
            f"{figure:10.1f}{figure / of:7.2f}" for figure, of in zip(figures, first, strict=True)
        )
        print(f"  {title:26}{''.join(columns)}")


def print_lists(project: Path, folder: Path, environment: dict[str, str]) -> None:
    """Print the cost of each database for the list of the news, compared with news in memory."""
    other = folder / "postgresql"
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    run([*command, "--output-dir", other, BENCH.parent, "database=postgresql"])
    (other,) = other.iterdir()
    run(["make", "install"], cwd=other)
    config = ["--config", "deploy/gunicorn.conf.py"]
    pairs: dict[str, tuple[Variant, Variant]] = {}
    with ExitStack() as running:
        postgresql = runpy.run_path(str(other / "tests/database/postgresql.py"))["postgresql"]
        server = running.enter_context(postgresql())
        databases = {"sqlite": (project, f"sqlite:///{folder}/news.db")}
        databases["postgresql"] = (other, server.url())
        for name, (baked, url) in databases.items():
            database = {"DATABASE_URL": url}
            run(["make", "migrate"], cwd=baked, env=environment | database)
            seed = [str(baked / ".venv/bin/python"), "-m", "my_service.news.seed", "--count", "20"]
            run(seed, cwd=baked, env=environment | database)
            kept = Variant(name, config, database, path="/news")
            held = Variant("memory", [*config, "memory:make_runner"], database, path="/news")
            pairs[name] = kept, held
            for variant in pairs[name]:
                log = folder / f"news-{name}-{variant.title}.log"
                running.enter_context(serving(variant, baked, log, environment))
            if len({get(variant.url).count(b"<article>") for variant in pairs[name]} | {20}) > 1:
                sys.exit(f"{name}: these are not 20 items")
        measure([variant for pair in pairs.values() for variant in pair])
    print(f"\n{'The list of 20 news':24}{'req/s':>8}  {'ratio to memory':22}{'CPU us':>8}  ratio")
    for name, (kept, held) in pairs.items():
        rates = ratios(kept.rates, held.rates)
        costs = ratios(held.costs, kept.costs)
        print(
            f"{name:24}{median(kept.rates):8.0f}  {spread(rates):22}"
            f"{median(kept.costs):8.0f}  {spread(costs)}"
        )


def main() -> None:
    """Bake, serve, measure and print. Raises SystemExit if a step fails."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: `make bench` installs it")
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        project = bake(folder)
        run(["make", "install"], cwd=project)
        page = folder / "page.html"
        environment = os.environ | {
            "ENVIRONMENT": "production",
            "SECRET_KEYS": secrets.token_urlsafe(32),
            "PYTHONPATH": str(BENCH),
            "PYTHONDONTWRITEBYTECODE": "1",
            "BENCH_PAGE": str(page),
        }
        python = project / ".venv/bin/python"
        print(run([python, BENCH / "static_reads.py"], cwd=project, env=environment), end="")

        for number, variant in enumerate([BAKED, *(v for v in VARIANTS if v is not BAKED)]):
            log = folder / f"{number}.log"
            servers.enter_context(serving(variant, project, log, environment))
            if variant is BAKED:
                page.write_bytes(get(variant.url))
            size, wanted = len(get(variant.url)), page.stat().st_size
            if abs(size - wanted) > wanted / 100:
                sys.exit(f"{variant.title.strip()}: {size} bytes, not {wanted}")
        measure(VARIANTS)
        servers.close()
        print_figures(wanted)
        print_layers(BAKED, BAKED_LAYERS)
        print_layers(REFERENCE, SMALLEST_LAYERS)
        print_latency(project, folder, environment)
        print_lists(project, folder, environment)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
