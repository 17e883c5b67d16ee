"""The project under a real systemd, in a separate machine: units, socket, watchdog, sandbox."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import httpx
import pytest
from conftest import (
    PRODUCTION,
    Project,
    clean_environment,
    client,
    cookiecutter,
    free_port,
    sign_in,
    started,
    wait_for,
)
from debian import tree
from documents import DEPLOY, sections, setting
from load import load
from needs import needs
from releases import (
    TEAPOT,
    Installed,
    add_setting,
    change_configuration,
    change_log,
    edit,
    rename_module,
    told,
)
from stack import TOKEN, children, publish
from workers import customized, run

pytestmark = [pytest.mark.xdist_group("systemd"), needs("systemd", "systemd-nspawn")]

HOME = Path("/srv/my-service")
UNITS = ("my-service.service", "my-service.socket")
PACKAGES = ["systemd", "systemd-sysv", "dbus", "curl", "git", "sqlite3"]
"""Packages of the machine, besides those that the documents install."""
SETTINGS = {
    "LISTEN_ADDRESS": "127.0.0.1",
    "API_TOKENS": TOKEN,
    # Short timeouts, so that the tests wait less.
    "DRAIN_TIMEOUT": "2",
    "WORKER_TIMEOUT": "5",
}
REGISTRIES = {
    name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))
}
"""Environment variables with which this machine reaches its package registries."""
ATTEMPTS = """
import mmap, os, socket, subprocess, time
from pathlib import Path

def report(attempt, *arguments):
    try:
        return str(attempt(*arguments))
    except OSError as error:
        return type(error).__name__

def write(path):
    Path(path).write_text("#!/bin/sh\\n")
    return "written"

def execute(path):
    write(path)
    Path(path).chmod(0o700)
    return subprocess.run([path], check=False)

def map_executable():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()

async def attempts(request):
    own = Path("uploads/own")
    return web.json_response({
        "user": os.getuid(),
        "network": os.readlink("/proc/self/ns/net"),
        "processes of": sorted({path.stat().st_uid for path in Path("/proc").glob("[0-9]*")}),
        "write": {path: report(write, path) for path in request.query.getall("write")},
        "execute": {path: report(execute, path) for path in request.query.getall("execute")},
        "connect": report(socket.create_connection, ("127.0.0.1", 1)),
        "be root": report(os.setuid, 0),
        "give away": [report(write, own), report(os.chown, own, 0, 0)],
        "set user id": report(own.chmod, 0o4755),
        "map": report(map_executable),
        "home": report(os.listdir, "/root"),
    })

extended = server.create_app

def create_late(settings):
    while "LATE" in os.environ and not os.path.exists(os.environ["LATE"]):
        time.sleep(0.1)
    app = extended(settings)
    app.router.add_get("/attempts", attempts)
    return app

server.create_app = create_late
"""
"""A handler that tries forbidden operations, and a worker that starts once a file exists."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "none"])
def units(
    request: pytest.FixtureRequest, installed: Project, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Render both units for each database, and return their folder."""
    folder = tmp_path_factory.mktemp("units") / "out"
    folder.mkdir()
    assert cookiecutter(folder, f"database={request.param}").returncode == 0
    project = folder / "my-service"
    variables = PRODUCTION | {"RUN_FOLDER": "/run/my-service", "PYTHONPATH": f"{project}/src"}
    variables |= {"DATABASE_URL": "postgresql:///x"} if request.param == "postgresql" else {}
    for unit in UNITS:
        done = subprocess.run(
            [installed.bin / "python", "deploy/render.py", f"systemd/app{Path(unit).suffix}"],
            cwd=project,
            env=clean_environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (folder / unit).write_text(done.stdout)
    return folder


def analyze(*arguments: str | Path) -> str:
    """Return the output of systemd-analyze. Raise AssertionError if it fails."""
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        env=clean_environment(SYSTEMD_COLORS="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_systemd_has_nothing_to_say_about_the_units(units: Path) -> None:
    assert analyze("verify", *(units / unit for unit in UNITS)) == ""


def exposure(unit: Path) -> float:
    """Return the overall exposure level of a service, at most 10."""
    said = analyze("security", "--offline=true", unit)
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level, said
    return float(level[1])


def test_the_service_is_hardly_exposed(units: Path, tmp_path: Path) -> None:
    service = units / UNITS[0]
    analyze("security", "--offline=true", "--threshold=11", service)
    text = service.read_text()
    said = re.search(r"the exposure \(.+\) is then ([\d.]+) and not ([\d.]+)\.", text)
    assert said
    # Versions of systemd rate units differently.
    assert exposure(service) == pytest.approx(float(said[2]), abs=0.2)
    for old, new in (
        ("PrivateNetwork=yes", ""),
        ("RestrictAddressFamilies=AF_UNIX", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"),
        ("IPAddressDeny=any", ""),
    ):
        assert text.count(f"\n{old}\n") == 1
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    opened = tmp_path / "my-service.service"
    opened.write_text(text)
    assert exposure(opened) == pytest.approx(float(said[1]), abs=0.2)


@dataclass(frozen=True)
class Machine:
    """A machine booted by systemd. It shares the network with this one."""

    tree: Path
    leader: int
    port: int
    since: float = 0
    """Start time of the test, in seconds since 1970."""

    @property
    def base(self) -> str:
        """The site's URL, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def attempt(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine as root, in the project's folder."""
        enter = ["nsenter", f"--target={self.leader}", "--all", "--"]
        within = ["env", "--chdir", HOME if (self.tree / HOME.relative_to("/")).exists() else "/"]
        return subprocess.run(
            [*enter, *within, *command],
            env=REGISTRIES
            | {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def follow(self, lines: list[str]) -> str:
        """Run these commands of a document, and write its settings to .env. Return the output."""
        said = []
        for line in lines:
            if given := setting(line):
                # Every other machine would have its own port 80; this one shares it.
                given = f"LISTEN_PORT={self.port}" if given == "LISTEN_PORT=80" else given
                said.append(self.run("sh", "-c", 'echo "$1" >> .env', "sh", given))
            else:
                said.append(self.run("sh", "-ec", line))
        return "\n".join(said)

    def run(self, *command: str | Path) -> str:
        """Run a command, and return its output. Raise AssertionError if it fails."""
        done = self.attempt(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{self.journal()[-4000:]}"
        return done.stdout.strip()

    def journal(self) -> str:
        """Return the log lines of the service, and systemd's lines about it, since ``since``."""
        command = ["journalctl", "--unit=my-service", "--output=cat", f"--since=@{self.since:.3f}"]
        return self.attempt(*command).stdout

    def show(self, name: str, unit: str = "my-service.service") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)

    def master(self) -> int:
        """Return the process id of serve.py in the machine."""
        return int(self.show("MainPID"))

    def children(self, *pids: int) -> set[int]:
        """Return the process ids of the processes' children."""
        paths = " ".join(f"/proc/{pid}/task/{pid}/children" for pid in pids)
        done = self.attempt("sh", "-c", f"cat {paths} /dev/null 2>/dev/null")
        return {int(pid) for pid in done.stdout.split()}

    def workers(self) -> set[int]:
        """Return the process ids of gunicorn's workers."""
        return self.children(*self.children(self.master()))

    def kill(self, number: signal.Signals, *pids: int) -> None:
        """Send a signal."""
        self.run("sh", "-c", f"kill -{number.value} {' '.join(map(str, pids))}")

    def answers(self) -> bool:
        """Return True if the application responds behind nginx."""
        with client() as http, suppress(httpx.TransportError):
            return http.get(f"{self.base}/livez").status_code == 200
        return False

    def reload(self) -> None:
        """Reload the service, and wait until the old workers have ended."""
        before = self.workers()
        self.run("systemctl", "reload", "my-service")
        assert len(self.workers() - before) == 2
        wait_for(lambda: not before & self.workers(), "the old workers to end")

    @contextmanager
    def settings(self, **changed: str) -> Iterator[None]:
        """Change .env while the block runs."""
        path = self.tree / HOME.relative_to("/") / ".env"
        before = path.read_text()
        path.write_text(before + "".join(f"{key}={value}\n" for key, value in changed.items()))
        try:
            yield
        finally:
            path.write_text(before)

    @contextmanager
    def dropped_in(self, text: str) -> Iterator[None]:
        """Add a drop-in file for the service while the block runs."""
        folder = self.tree / "etc/systemd/system/my-service.service.d"
        folder.mkdir(exist_ok=True)
        path = folder / "while.conf"
        path.write_text(f"[Service]\n{text}\n")
        self.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            path.unlink()
            self.run("systemctl", "daemon-reload")


def commit(project: Project) -> None:
    """Commit all changes."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=It"]):
        subprocess.run(["git", *who, *command], cwd=project.path, check=True)


def first_process(nspawn: int) -> int:
    """Return the process id here of the machine's process 1, or 0 if there is none yet."""
    for child in children(nspawn):
        with suppress(OSError):
            if re.search(r"^NSpid:.*\t1$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE):
                return child
    return 0


def inhabitants(namespace: Path) -> list[int]:
    """Return the processes of a machine, given its PID namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "ns/pid").readlink() == namespace:
                found.append(int(process.name))
    return found


@contextmanager
def booted(tree: Path, log: Path, port: int) -> Iterator[Machine]:
    """Boot the tree, and power it off at the end, also if the test run is killed."""
    nspawn = ["setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--register=no", "--keep-unit"]
    with started([*nspawn, "--boot", f"--directory={tree}"], log, lambda: True, tree) as server:
        try:
            wait_for(lambda: first_process(server.process.pid), "systemd")
            machine = Machine(tree, first_process(server.process.pid), port)
            namespace = Path(f"/proc/{machine.leader}/ns/pid").readlink()
            state = ["systemctl", "is-system-running"]
            wait_for(lambda: machine.attempt(*state).stdout == "running\n", "the boot")
            assert len(inhabitants(namespace)) > 5
            yield machine
            machine.run("systemctl", "poweroff")
            assert server.process.wait(timeout=60) == 0
            assert inhabitants(namespace) == []
        finally:
            for child in children(server.process.pid):  # killing them ends the whole machine
                os.kill(child, signal.SIGKILL)
            server.process.wait(timeout=60)
    assert str(tree) not in Path("/proc/mounts").read_text()


def start_supervised(machine: Machine, lines: list[str]) -> None:
    """Start nginx and gunicorn under supervisord with a unit, as documented, and stop them."""
    at = lines.index("[Unit]")
    *before, start, status = lines[:at]
    assert f"ExecStart={HOME}/{start}" in lines[at:]
    machine.follow(before)
    machine.follow([f"LISTEN_PORT={machine.port}", "LISTEN_ADDRESS=127.0.0.1", "DRAIN_TIMEOUT=2"])
    unit = "my-service-stack.service"
    (machine.tree / "etc/systemd/system" / unit).write_text("\n".join(lines[at:]))
    machine.run("systemctl", "start", unit)
    wait_for(machine.answers, "an answer")
    wait_for(lambda: machine.follow([status]).count(" RUNNING ") == 2, "nginx and gunicorn")
    machine.run("systemctl", "stop", unit)
    assert machine.show("Result", unit) == "success"


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, account: str
) -> Iterator[tuple[Machine, Project]]:
    """Boot a machine with the project installed as in its README; yield its repository too."""
    folder = tmp_path_factory.mktemp("machine")
    made, baked = folder / "tree", folder / "baked"
    baked.mkdir()
    assert cookiecutter(baked).returncode == 0
    documented = sections(Project(baked / "my-service", "my_service"), DEPLOY)
    first, *lines = documented["systemd"]
    tree(made, *PACKAGES, *first.removeprefix("apt-get install ").split())
    shutil.move(baked / "my-service", made / "srv/origin")
    origin = Project(made / "srv/origin", "my_service")
    commit(origin)
    (made / "etc/nginx/sites-enabled/default").write_text(
        ""
    )  # it listens on this machine's port 80
    # Every Python that has this folder in PYTHONPATH imports it.
    (made / "opt/extra").mkdir()
    (made / "opt/extra/sitecustomize.py").write_text(customized(origin.package, ATTEMPTS))
    try:
        with booted(made, folder / "log", free_port()) as found:
            found.run("git", "clone", "--quiet", "/srv/origin", HOME)
            start_supervised(found, documented["nginx under supervisord"])
            # Remove everything before the other setup begins.
            found.run("rm", "-r", "uploads", "data", "run")
            found.run("userdel", "my-service")
            at = lines.index("RUN_FOLDER=/run/my-service")
            settings = SETTINGS | {"ADMIN_USERS": account}
            ours = [f"{name}={value}" for name, value in settings.items()]
            found.follow([first, *lines[:at], *ours, *lines[at:]])
            drop_in = made / "etc/systemd/system/my-service.service.d"
            drop_in.mkdir()
            (drop_in / "extra.conf").write_text("[Service]\nEnvironment=PYTHONPATH=/opt/extra\n")
            found.run("systemctl", "daemon-reload")
            found.run("systemctl", "restart", "my-service")
            yield found, origin
    finally:
        shutil.rmtree(made)


@pytest.fixture
def site(machine: tuple[Machine, Project]) -> Machine:
    """Return the machine, with the service in its normal state."""
    found, _ = machine
    found.run("systemctl", "reset-failed")
    found.run("systemctl", "start", *UNITS)
    wait_for(lambda: len(found.workers()) == 2 and found.answers(), "two workers")
    return replace(found, since=time.time())


def test_it_came_with_the_machine_and_nothing_failed(site: Machine) -> None:
    assert site.run("systemctl", "is-enabled", *UNITS) == "enabled\nenabled"
    assert "0 loaded units listed" in site.run("systemctl", "--failed")
    assert site.show("User") == "my-service"


def test_the_first_request_starts_it(site: Machine) -> None:
    site.run("systemctl", "stop", "my-service.service")
    states = site.attempt("systemctl", "is-active", *UNITS).stdout
    assert states == "inactive\nactive\n"
    with client() as http:
        assert http.get(f"{site.base}/about").status_code == 200
    wait_for(lambda: site.show("ActiveState") == "active", "the service")


def test_it_is_started_when_a_worker_can_answer(site: Machine) -> None:
    site.run("systemctl", "stop", *UNITS)
    with site.dropped_in(f"Environment=LATE={HOME}/uploads/late"):
        site.run("systemctl", "start", "my-service.socket")
        site.run("systemctl", "start", "--no-block", "my-service.service")
        wait_for(lambda: len(site.workers()) == 2, "the workers")
        assert site.show("ActiveState") == "activating"
        site.run("touch", "uploads/late")
        site.run("systemctl", "start", "my-service.service")  # waits for running jobs
        assert site.show("ActiveState") == "active"
        assert site.answers()
    site.run("rm", "uploads/late")
    site.run("systemctl", "restart", "my-service")


def test_nginx_serves_pages_files_and_uploads(site: Machine) -> None:
    content = os.urandom(1024**2)
    with client() as http:
        page = http.get(f"{site.base}/")
        found = re.search(r'href="(/static/site\.css\?v=[^"]+)"', page.text)
        assert found
        assert "immutable" in http.get(site.base + found[1]).headers["Cache-Control"]
        sign_in(http, site.base)
        uploaded = http.post(f"{site.base}/admin/files/", files={"file": ("large.bin", content)})
        assert uploaded.status_code == 201
        assert http.get(site.base + uploaded.headers["Location"]).content == content
    journal = site.journal()
    assert "/admin/files/" in journal
    assert "/static/" not in journal  # nginx sent the file
    files = site.run("find", "uploads", "-printf", "%M %u:%g %P\n").splitlines()
    assert "drwxr-s--- my-service:www-data files" in files
    kept = [line.rpartition("/")[0] for line in files if line.endswith("/content")]
    assert {line.split(" files/")[0] for line in kept} == {"-rw-r----- my-service:www-data"}


def test_the_database_was_brought_up_to_date_before_the_start(site: Machine) -> None:
    """The service's user ran the migration once: neither a restart nor a worker repeated it."""
    everything = replace(site, since=0).journal()
    assert everything.count("Running upgrade  -> 0001, News.") == 1
    starts = everything.count("Context impl SQLiteImpl.")
    site.reload()
    assert replace(site, since=0).journal().count("Context impl SQLiteImpl.") == starts
    site.run("systemctl", "restart", "my-service")
    assert replace(site, since=0).journal().count("Context impl SQLiteImpl.") == starts + 1
    wait_for(site.answers, "an answer")
    with client() as http:
        assert http.get(f"{site.base}/readyz").status_code == 200
        publish(http, site.base, "From the machine")
    kept = site.run("find", "data", "-type", "f", "-printf", "%M %u:%g %f\n").splitlines()
    assert "-rw-r----- my-service:my-service app.db" in kept
    assert {line.rpartition(" ")[0] for line in kept} == {"-rw-r----- my-service:my-service"}


def test_only_nginx_may_connect(site: Machine) -> None:
    ask = [
        "curl",
        "--silent",
        "--unix-socket",
        "/run/my-service/sockets/app.sock",
        "http://localhost/livez",
    ]
    for user, status in (("www-data", 0), ("my-service", 7), ("nobody", 7)):
        assert site.attempt("runuser", "-u", user, "--", *ask).returncode == status, user
    # nginx must not read the secrets of the service.
    assert site.attempt("runuser", "-u", "www-data", "--", "cat", ".env").returncode == 1


def test_what_it_may_not_do(site: Machine) -> None:
    writable = [f"/srv/my-service/{path}/x" for path in ("data", "uploads")]
    writable += ["/tmp/x", "/var/tmp/x", "/dev/shm/x"]
    readonly = [f"/srv/my-service/{path}" for path in ("x", "src/x", ".env", "run/x")]
    readonly += ["/etc/x", "/opt/x", "/run/x", "/run/my-service/x", "/var/lib/x", "/var/log/x"]
    query = {"write": writable + readonly, "execute": writable}
    with client() as http:
        found = http.get(f"{site.base}/attempts", params=query).json()
    uid = int(site.run("id", "-u", "my-service"))
    assert found.pop("network") != site.run("readlink", "/proc/self/ns/net")
    assert {path for path, said in found.pop("write").items() if said == "written"} == set(writable)
    assert set(found.pop("execute").values()) == {"PermissionError"}
    assert found == {
        "user": uid,
        "processes of": [uid],
        "connect": "OSError",  # EAFNOSUPPORT
        "be root": "PermissionError",
        "give away": ["written", "PermissionError"],
        "set user id": "PermissionError",
        "map": "PermissionError",
        "home": "PermissionError",
    }
    for pid in (site.master(), *site.children(site.master()), *site.workers()):
        status = site.run("cat", f"/proc/{pid}/status")
        assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, re.MULTILINE)
        assert set(re.findall(r"^Cap\w+:\t(\w+)$", status, re.MULTILINE)) == {"0" * 16}
        assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)


def test_reloads_and_restarts_lose_no_request(site: Machine) -> None:
    master = site.master()
    with load([site.port], "/about", "/echo") as clients:
        site.reload()
        assert (site.master(), site.show("NRestarts")) == (master, "0")
        # Requests that arrive while nothing runs wait at the socket.
        site.run("systemctl", "restart", "my-service")
        wait_for(lambda: len(site.workers()) == 2, "both workers")
    assert clients.failures == []
    assert len(clients.answers) == 4
    assert min(clients.answers.values()) > 50
    assert site.master() != master


def test_a_reload_with_wrong_settings_is_refused(site: Machine) -> None:
    before = site.master(), site.workers()
    with site.settings(LOG_LEVEL="LOUD"):
        done = site.attempt("systemctl", "reload", "my-service")
        assert done.returncode == 1
        assert "Job for my-service.service failed" in done.stdout
    assert (site.master(), site.workers()) == before
    assert site.show("ActiveState") == "active"
    assert site.answers()
    assert "LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'" in site.journal()


def test_copy_of_the_database_is_put_back_as_documented(
    site: Machine, machine: tuple[Machine, Project]
) -> None:
    copy, *back = sections(machine[1], DEPLOY)["The database"]
    with client() as http:
        publish(http, site.base, "In the copy")
        site.follow([copy])
        publish(http, site.base, "Later than the copy")
        site.run("systemctl", "stop", "my-service.socket", "my-service")
        site.follow(back)
        site.run("systemctl", "start", *UNITS)
        assert http.get(f"{site.base}/readyz").status_code == 200
        news = http.get(f"{site.base}/news").text
        publish(http, site.base, "Afterwards")
    assert "In the copy" in news
    assert "Later than the copy" not in news


def test_update_and_the_way_back_lose_no_request_as_documented(
    site: Machine, machine: tuple[Machine, Project]
) -> None:
    _, origin = machine
    *update, downgrade = sections(origin, DEPLOY)["Updates"]
    back = [line.replace("git pull", "git checkout HEAD~1") for line in update]
    before = told(site.base)["description"]
    release = Installed(origin.path, origin.path / "src/my_service")
    release.announce("the second")
    rename_module(release)
    commit(origin)
    with load([site.port], "/about", "/echo") as clients:
        clients.wait_for_all(4, 10)
        for lines, description in ((update, "the second"), (back, before)):
            assert "reloaded after" in site.follow(lines)
            assert told(site.base)["description"] == description
        clients.wait_for_all(4, 10)
    assert clients.failures == []
    site.follow([downgrade])  # the target is the current revision


def test_reload_takes_all_that_has_changed_into_use_or_nothing(site: Machine) -> None:
    """With the script that ``make reload`` runs, as root."""
    home = site.tree / HOME.relative_to("/")
    project = Installed(home, home / "src/my_service")
    conf = site.tree / "etc/nginx/sites-enabled/my-service"
    before = site.workers(), conf.read_text()
    for name, old, new, said in (
        ("PACKAGE/site/pages.py", "", "tea = (\n", "SyntaxError"),
        ("deploy/nginx/site.conf", "server_tokens off;", "tea on;", 'directive "tea"'),
    ):
        with project.broken(name, old, new):
            done = site.attempt("deploy/reload.sh")
        assert done.returncode != 0
        assert said in done.stdout
        assert (site.workers(), conf.read_text()) == before
    for release in (add_setting, rename_module, change_log, change_configuration):
        release(project)
    project.announce("all")
    edit(home / "deploy/systemd/app.service", "OOMPolicy=continue", "OOMPolicy=kill")
    with load([site.port], "/about", "/echo") as clients:
        said = site.run("deploy/reload.sh")
        found = told(site.base)
        clients.wait_for_all(4, 20)
    assert clients.failures == []
    assert [found[key] for key in ("description", "motto", "greeting")] == [
        *("all", "tea for all", "hello")
    ]
    assert "my-service.service has changed: systemctl restart my-service.service" in said
    assert site.show("OOMPolicy") == "kill"
    # nginx's site, whose reload closes idle connections.
    edit(home / "deploy/nginx/site.conf", "    server_tokens off;", TEAPOT)
    site.run("deploy/reload.sh")

    def is_new() -> bool:
        with client() as http:  # nginx closes connections that are idle
            return http.get(f"{site.base}/tea").status_code == 418

    wait_for(is_new, "nginx to have read it")


def test_it_starts_once_wrong_settings_are_mended(site: Machine) -> None:
    assert site.show("StartLimitIntervalUSec") == "0"  # it never gives up
    with site.settings(DATABASE_URL="sqlite:////srv/my-service/run/app.db"):
        assert site.attempt("systemctl", "restart", "my-service").returncode == 1
        wait_for(lambda: int(site.show("NRestarts")) > 1, "attempts to start")
        assert site.show("ActiveState", "my-service.socket") == "active"
    assert "DATABASE_URL: /srv/my-service is not a writable folder" in site.journal()
    wait_for(lambda: site.show("ActiveState") == "active", "the service")
    assert site.answers()


def test_a_worker_that_hangs_is_replaced(site: Machine) -> None:
    master, (hangs, other) = site.master(), sorted(site.workers())
    site.kill(signal.SIGSTOP, hangs)
    wait_for(lambda: hangs not in site.workers(), "the worker to be killed")
    wait_for(lambda: len(site.workers()) == 2, "another worker")
    assert other in site.workers()
    assert (site.master(), site.show("NRestarts")) == (master, "0")
    assert "WORKER TIMEOUT" in site.journal()


def test_the_watchdog_restarts_what_hangs_as_a_whole(site: Machine) -> None:
    assert site.show("WatchdogUSec") == "10s"
    restarts, master, workers = int(site.show("NRestarts")), site.master(), site.workers()
    site.kill(signal.SIGSTOP, *site.children(master), *workers)
    wait_for(lambda: site.master() not in {0, master}, "another master")
    wait_for(site.answers, "an answer")
    assert int(site.show("NRestarts")) == restarts + 1
    assert not workers & site.workers()
    assert "Watchdog timeout" in site.journal()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_comes_back_when_its_master_is_killed(number: signal.Signals, site: Machine) -> None:
    master, workers = site.master(), site.workers()
    site.kill(number, master)
    wait_for(lambda: site.master() not in {0, master}, "another master")
    wait_for(site.answers, "an answer")
    assert not workers & site.workers()


async def last_moments(site: Machine) -> tuple[int | None, str, str]:
    """Stop the service. Return the results of a WebSocket, a slow request, and the stop itself."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{site.base}/live", protocols=["live.v1"], origin=site.base) as socket,
    ):
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(session.get(f"{site.base}/slow?seconds=4"))
            # /slow is logged only at its end, so a later response shows that it has begun.
            while (await session.get(f"{site.base}/livez")).status != 200:
                pass
            stop = asyncio.to_thread(site.run, "systemctl", "stop", "my-service.socket")
            stopped = tasks.create_task(stop)
            await socket.receive()
        return socket.close_code, await slow.result().text(), stopped.result()


def test_it_stops_gracefully(site: Machine) -> None:
    """The socket stops too, so that no request starts the service again."""
    assert run(last_moments(site)) == (1001, "slept", "")
    assert site.attempt("systemctl", "is-active", *UNITS).stdout == "inactive\ninactive\n"
    assert site.show("Result") == "success"
    assert site.attempt("test", "-e", "/run/my-service/sockets/app.sock").returncode == 1
    with client() as http:
        assert http.get(f"{site.base}/livez").status_code == 502
