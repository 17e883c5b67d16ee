"""Fixtures and helpers that bake projects and run them."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import httpx
import pytest
from needs import missing
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

ROOT = Path(__file__).parent.parent
BAKED_TESTS = ROOT / "<<cookiecutter.project_slug>>/tests"
postgresql = SimpleNamespace(**run_path(str(BAKED_TESTS / "database/postgresql.py")))
"""Functions that the tests of a baked project start PostgreSQL with."""
LONGEST = (
    *("test_image", "test_systemd", "passes_its_check[", "is_covered"),
    # Short ones wait behind each of the tests above: pytest-xdist assigns them in advance.
    "test_answers",
    "has_grown",
    "test_audits",
    *("test_release", "test_make"),
)
"""Parts of the ids of the tests that take longest, in the order in which they start."""
VERSIONS = ROOT / ".cache/versions"
"""Folder where the tests note the versions of the dependencies that were installed."""
SCREENSHOTS = ROOT / ".cache/screenshots"
SECRET = "a-key-of-the-tests-that-is-long-enough"
PRODUCTION = {"ENVIRONMENT": "production", "SECRET_KEYS": SECRET}
TIMEOUT = 180.0
"""Seconds after which a test gives up; long, because a busy machine only slows tests down."""
PASSWORD = "the password of the tests"
"""Password of the account ``ada``; see the fixture ``account``."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: needs neither root nor a server (make check)")
    config.addinivalue_line("markers", "needs(*names): what the machine must have, see needs.py")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(VERSIONS, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first, so that no worker is left alone with one of them."""

    def place(item: pytest.Item) -> int:
        return next((n for n, part in enumerate(LONGEST) if part in item.nodeid), len(LONGEST))

    items.sort(key=place)


def pytest_runtest_setup(item: pytest.Item) -> None:
    names = [name for mark in item.iter_markers("needs") for name in mark.args]
    if lacking := sorted({lack for name in names if (lack := missing(name))}):
        pytest.skip(f"this machine lacks {', '.join(lacking)}")


def skipped(config: pytest.Config) -> dict[str, list[str]]:
    """Return the skipped tests by reason."""
    found: dict[str, list[str]] = {}
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for report in reporter.stats.get("skipped", []) if reporter else []:
        found.setdefault(report.longrepr[2].removeprefix("Skipped: "), []).append(report.nodeid)
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    controls = not hasattr(session.config, "workerinput")
    if controls and os.environ.get("CI") and skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if unproven := skipped(config):
        terminalreporter.section("NOT proven on this machine", red=True)
        for reason, tests in unproven.items():
            terminalreporter.write_line(f"{reason}: {len(tests)} tests")
            for test in sorted({each.partition("[")[0] for each in tests}):
                terminalreporter.write_line(f"    {test}")
        if os.environ.get("CI"):
            terminalreporter.write_line("CI is set: this is an error.", red=True)
    for path in sorted(VERSIONS.glob("*")):
        terminalreporter.section("versions that were tested")
        terminalreporter.write(path.read_text())


@dataclass(frozen=True)
class Project:
    """A baked project."""

    path: Path
    package: str

    @property
    def bin(self) -> Path:
        """The folder of programs in its virtual environment."""
        return self.path / ".venv/bin"

    def readme(self) -> str:
        """Return the text of its README."""
        return (self.path / "README.md").read_text()

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run make in the project. Raise AssertionError with the output if it fails."""
        done = subprocess.run(
            ["make", *arguments],
            cwd=self.path,
            env=clean_environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without variables that would affect a project's make."""
    leaks = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "VIRTUAL_ENV", "PYTEST_XDIST_WORKER"}
    return {key: value for key, value in os.environ.items() if key not in leaks} | variables


def answers() -> dict[str, str | list[str]]:
    """Return the questions with their defaults or choices."""
    questions = json.loads((ROOT / "cookiecutter.json").read_text())
    return {key: value for key, value in questions.items() if not key.startswith("_")}


def cookiecutter(
    folder: Path, *arguments: str, typed: str | None = None, config: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run cookiecutter on the template with a separate home; ``typed`` answers the questions."""
    program = [sys.executable, "-m", "cookiecutter", str(ROOT)]
    options = ["--output-dir", str(folder), *([] if typed else ["--no-input"])]
    options += ["--config-file", str(config)] if config else ["--default-config"]
    return subprocess.run(
        [*program, *options, *arguments],
        env=clean_environment(HOME=str(folder.parent.parent), PYTHONIOENCODING="utf-8"),
        input=typed,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


Bake = Callable[..., Project]


def bake_into(folder: Path, **given: str) -> Project:
    """Bake with some answers; all other answers keep their defaults."""
    folder.mkdir(parents=True)
    # Typed, because cookiecutter would take arguments for templates.
    typed = ""
    for key, default in answers().items():
        answer = given.get(key, "")
        if answer and isinstance(default, list):
            answer = str(default.index(answer) + 1)
        typed += answer + "\n"
    done = cookiecutter(folder, typed=typed)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.iterdir()
    (package,) = (path / "src").iterdir()
    return Project(path, package.name)


@pytest.fixture
def bake(tmp_path: Path) -> Bake:
    """Return a function that bakes with some answers, into a folder of the test."""

    def bake(**given: str) -> Project:
        return bake_into(tmp_path / f"bake-{len(list(tmp_path.iterdir()))}" / "out", **given)

    return bake


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the default project, installed once for all pytest processes, which only copy it."""
    everybody = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        everybody = everybody.parent
    path = everybody / "original/my-service"
    with (everybody / "original.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / "data").exists():
            bake_into(path.parent).make("migrate")  # installs first
    return Project(path, "my_service")


def copied(original: Project, folder: Path) -> Project:
    """Return a copy of an installed project in a folder."""
    path = folder / original.path.name
    shutil.copytree(original.path, path, symlinks=True, ignore=shutil.ignore_patterns(".venv"))
    subprocess.run(["cp", "--archive", "--link", original.path / ".venv", path], check=True)
    # A link, and a program's first line, contain the folder in which they were made.
    named = [each for each in (path / ".venv/bin").iterdir() if not each.is_symlink()]
    for each in (*named, *path.glob(".venv/lib/*/site-packages/*.pth")):
        content = each.read_bytes()
        if os.fsencode(original.path) in content:
            mode = each.stat().st_mode
            each.unlink()
            each.write_bytes(content.replace(os.fsencode(original.path), os.fsencode(path)))
            each.chmod(mode)
    return Project(path, original.package)


@pytest.fixture(scope="session")
def installed(original: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return an installed copy of the default project, which the tests of a process share."""
    return copied(original, tmp_path_factory.mktemp("installed"))


@contextmanager
def in_env_file(project: Project, **settings: str) -> Iterator[None]:
    """Add these settings to the project's .env while the block runs."""
    path = project.path / ".env"
    before = path.read_text()
    path.write_text(before + "".join(f"{name}={value}\n" for name, value in settings.items()))
    try:
        yield
    finally:
        path.write_text(before)


@pytest.fixture(scope="session")
def account(installed: Project) -> str:
    """Return a value of ADMIN_USERS that lets ``ada`` sign in with PASSWORD."""
    hasher = f"from {installed.package}.passwords import HASHER"
    done = subprocess.run(
        [installed.bin / "python", "-c", f"{hasher}; print(HASHER.hash({PASSWORD!r}))"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return f"ada:{done.stdout.strip()}"


PORTS = cycle(range(10000, 30000, 2))
"""Ports below the kernel's range for clients. Each pytest process starts at a different one."""
for _ in range(97 * os.getpid() % 10000):
    next(PORTS)


def free_port() -> int:
    """Return a free TCP port whose successor is free too (adev uses both)."""
    while True:
        port = next(PORTS)
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port


def wait_for(condition: Callable[[], object], what: str, seconds: float = TIMEOUT) -> None:
    """Wait until the condition is true. Raise AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        assert began < deadline, f"waited {seconds:.0f} s for {what}"
        # A condition that starts a program would take a core from what it waits for.
        time.sleep(max(0.05, time.monotonic() - began))


def loud(lines: list[dict[str, object]]) -> list[str]:
    """Return the events above INFO, except that a busy machine delayed an event loop."""
    events = [str(line["event"]) for line in lines if line["level"] not in {"debug", "info"}]
    return [event for event in events if not event.startswith("the event loop was blocked")]


@dataclass
class Server:
    """A running server, and its output."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """Return standard output and error so far."""
        return self.log.read_text()

    def tail(self) -> str:
        """Return the last 50 lines of the output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-50:])

    def group(self) -> list[int]:
        """Return the process ids of the server, which are those of its session."""
        members = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                # pid (comm) state ppid pgrp session
                state, _, _, session = status.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    members.append(int(status.parent.name))
        return members

    def stop(self, number: int = signal.SIGINT) -> int:
        """Signal the whole group, as Ctrl-C in a terminal does, and return the exit status."""
        os.killpg(self.process.pid, number)
        status = self.process.wait(TIMEOUT)
        wait_for(lambda: not self.group(), "the last process to end")
        return status


@contextmanager
def started(
    command: list[str], log: Path, ready: Callable[[], bool], cwd: Path, **environment: str
) -> Iterator[Server]:
    """Start a server in its own session; at the end, kill every process left in it."""
    log.write_bytes(b"")
    with log.open("ab") as output:  # several processes write to it
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=clean_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, log)
    try:
        try:
            wait_for(lambda: ready() or process.poll() is not None, f"{command} to be ready")
            assert process.poll() is None, f"{command} ended with status {process.returncode}"
        except AssertionError as error:
            raise AssertionError(f"{error}; the end of its log:\n{server.tail()}") from None
        try:
            yield server
        except Exception as error:
            error.add_note(f"The end of {log}:\n{server.tail()}")
            raise
    finally:
        for pid in server.group():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def listens(uds: Path) -> bool:
    """Return True if a server listens on the Unix socket. httpx would leak the refused socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(uds)) == 0


def answers_at(url: str, uds: Path | None = None) -> Callable[[], bool]:
    """Return a condition: that the URL responds, over a Unix socket if one is given."""

    def condition() -> bool:
        if uds and not listens(uds):
            return False
        try:
            with client(uds) as http:
                return http.get(url).status_code < 500
        except httpx.TransportError:
            return False

    return condition


def client(uds: Path | None = None) -> httpx.Client:
    """Return an HTTP client that ignores the proxies of the environment."""
    # Without TLS, because loading certificates takes longer than most requests.
    transport = httpx.HTTPTransport(uds=str(uds) if uds else None, verify=False)
    return httpx.Client(transport=transport, timeout=TIMEOUT)


def standalone(project: Project, *arguments: str) -> list[str]:
    """Return the command that runs the standalone server."""
    return [str(project.bin / "python"), "-m", project.package, *arguments]


def gunicorn(project: Project, *arguments: str) -> list[str]:
    """Return the command that serves the project under gunicorn, in its folder."""
    return [str(project.bin / "gunicorn"), "--config", "deploy/gunicorn.conf.py", *arguments]


def lines(server: Server) -> list[dict[str, object]]:
    """Return the log lines of the server."""
    return [json.loads(line) for line in server.log.read_bytes().splitlines()]


@dataclass(frozen=True)
class Site:
    """The project in production, with an account and a folder for uploads."""

    base: str
    server: Server
    uploads: Path

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.base.rpartition(":")[2])

    def kept(self) -> list[Path]:
        """Return the folders of the uploaded files."""
        return sorted((self.uploads / "files").iterdir())

    def incoming(self) -> list[Path]:
        """Return the folders of the uploads in progress."""
        return sorted((self.uploads / "incoming").iterdir())

    def errors(self) -> list[dict[str, object]]:
        """Return the server's log lines about its own errors."""
        return [line for line in lines(self.server) if line["level"] in {"error", "critical"}]

    def requests(self, path: str) -> list[dict[str, object]]:
        """Return the access log lines of a path."""
        return [line for line in lines(self.server) if line.get("path") == path]


@contextmanager
def serving(
    project: Project,
    folder: Path,
    account: str,
    command: Callable[..., list[str]] = standalone,
    **environment: str,
) -> Iterator[Site]:
    """Serve the project on a free port; its log and uploads go into the folder."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    arguments = ("--bind", f"127.0.0.1:{port}") if command is gunicorn else ("--port", str(port))
    uploads = folder / "uploads"
    variables = PRODUCTION | {"ADMIN_USERS": account, "UPLOAD_FOLDER": str(uploads)} | environment
    ready = answers_at(f"{base}/livez")
    with started(
        command(project, *arguments), folder / "log", ready, project.path, **variables
    ) as server:
        yield Site(base, server, uploads)


def sign_in(http: httpx.Client, base: str) -> None:
    """Sign in a client, which then sends the cookie and its origin as a browser does."""
    http.headers["Origin"] = base
    answer = http.post(f"{base}/admin/login", data={"name": "ada", "password": PASSWORD})
    assert answer.status_code == 303


def upload(http: httpx.Client, base: str, content: bytes) -> str:
    """Sign in, check the overview, upload a file, and return its path on the site."""
    sign_in(http, base)
    assert "ada" in http.get(f"{base}/admin/").text
    answer = http.post(f"{base}/admin/files/", files={"file": ("large.bin", content)})
    assert answer.status_code == 201
    return answer.headers["Location"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Run Debian's Chromium."""
    program = shutil.which("chromium")
    assert program, "Chromium is missing: run tests/system-packages.sh test"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",  # tests may run as root
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        yield browser
        browser.close()


class Tab:
    """A page, and all errors that occurred on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.set_default_timeout(1000 * TIMEOUT)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("requestfailed", self._failed)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(message.text)

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # leaving a page aborts its requests
            self.wrong.append(f"{request.url}: {request.failure}")


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """Open a page in a new browser context, separate from other tests."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    yield Tab(context.new_page())
    context.close()
