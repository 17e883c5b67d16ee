"""The images: built with podman on a base image of the tests, and run with read-only files."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest
import yaml
from conftest import (
    PASSWORD,
    PRODUCTION,
    SECRET,
    Bake,
    Project,
    answers_at,
    clean_environment,
    client,
    cookiecutter,
    free_port,
    loud,
    sign_in,
    upload,
    wait_for,
)
from debian import BUNDLE, base
from documents import DEPLOY, sections
from load import load
from needs import needs
from releases import Installed, change_configuration, change_log, rename_module, told
from stack import TOKEN, ask, publish, talk
from test_answers import hostile_answers
from workers import customized, run

pytestmark = [pytest.mark.xdist_group("image"), needs("containers", "podman", "runc")]

MIB = 1024**2
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
LOCKED = ["--cap-drop=all", "--security-opt=no-new-privileges", "--read-only", "--tmpfs=/tmp"]
VOLUMES = ["--tmpfs=/app/run", "--volume=uploads:/app/uploads", "--volume=kept:/app/data"]
LIMITS = ["nofile=20000:20000", "nproc=4096:4096"]
NUMBERS = count(1)
TAG = "3.13-slim-bookworm"
"""Tag of the Dockerfile's base image. The tests' own base has the Python that runs the tests."""
CONNECTED = "Context impl SQLiteImpl."
UPGRADED = "Running upgrade  -> 0001, News."
"""Log message of Alembic."""
BUILD = {"BUILDAH_FORMAT": "docker", "BUILDAH_ISOLATION": "chroot"}
"""Environment of podman: Docker's format, for HEALTHCHECK, and builds as root in a container."""


class Engine:
    """podman, with its own storage."""

    def __init__(self, folder: Path) -> None:
        self._command = [
            "podman",
            *(f"--root={folder}/root", f"--runroot={folder}/run", f"--tmpdir={folder}/tmp"),
            *("--storage-driver=overlay", "--events-backend=none", "--log-level=fatal"),
            *("--cgroup-manager=cgroupfs", "--runtime=runc"),
        ]

    @property
    def command(self) -> str:
        """The command, quoted for a shell."""
        return shlex.join(self._command)

    def ask(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run podman, and return the completed process."""
        command = [*self._command, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def __call__(self, *arguments: object) -> str:
        """Run podman, and return its output. Raise AssertionError if it fails."""
        done = self.ask(*arguments)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def build(self, folder: Path, *options: str) -> str:
        """Build an image from a folder, and return its id."""
        build = ["--isolation=chroot", "--network=host", "--format=docker", "--pull=never"]
        return self("build", "--quiet", *build, *options, folder)

    @contextmanager
    def content(self, image: str) -> Iterator[Path]:
        """Mount the files of an image, and yield their folder."""
        try:
            yield Path(self("image", "mount", image))
        finally:
            self("image", "unmount", image)


@dataclass(frozen=True)
class Container:
    """A running container, in the network of the host."""

    engine: Engine
    name: str
    port: int

    @property
    def base(self) -> str:
        """The URL without a path."""
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        """Return its standard output and error so far."""
        done = self.engine.ask("logs", self.name)
        return done.stdout + done.stderr

    def lines(self, path: str, by: str) -> list[dict[str, object]]:
        """Return the lines of a path in nginx's access log, or the project's (``access``)."""
        return [line for line in self.said(by) if line.get("path") == path]

    def said(self, by: str) -> list[dict[str, object]]:
        """Return the lines of a logger."""
        found = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in found if line["logger"] == by]

    def migrations(self) -> list[object]:
        """Return Alembic's log messages: it connects, and runs the pending migrations."""
        events = [line["event"] for line in self.said("alembic.runtime.migration")]
        return [event for event in events if event != "Will assume transactional DDL."]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return self.engine.ask("exec", self.name, *command)

    def control(self, *arguments: str) -> str:
        """Run supervisorctl in the container."""
        return self.execute("supervisorctl", "-c", "run/supervisord.conf", *arguments).stdout

    def processes(self) -> dict[int, str]:
        """Return the commands of its processes, by process id on the host."""
        rows = self.engine("top", self.name, "hpid", "args").splitlines()
        # A process that has just ended has a question mark.
        return {int(row.split()[0]): row for row in rows if row[0].isdigit()}

    def healthy(self) -> bool:
        """Run the check of the image's HEALTHCHECK, and return True if it succeeds."""
        image = self.engine("inspect", "--format={{.Image}}", self.name)
        (found,) = json.loads(self.engine("image", "inspect", image))
        kind, *command = found["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.execute(*command).returncode == 0

    def signal(self, name: str) -> None:
        """Send a signal to its first process."""
        self.engine("kill", f"--signal={name}", self.name)

    def wait(self) -> int:
        """Wait until it ends, and return the exit status."""
        return int(self.engine("wait", self.name))


@contextmanager
def container(
    engine: Engine, image: str, *options: str, port: int, env: Mapping[str, str]
) -> Iterator[Container]:
    """Start a container, and remove it at the end."""
    name = f"test-{next(NUMBERS)}"
    # The engine's own limits may exceed this machine's.
    options += tuple(f"--ulimit={limit}" for limit in LIMITS)
    options += tuple(f"--env={key}={value}" for key, value in env.items())
    places = ("--network=host", "--log-driver=k8s-file", f"--name={name}")
    try:
        engine("run", "--detach", *places, *options, image)
        yield Container(engine, name, port)
    finally:
        engine("rm", "--force", "--time=0", "--ignore", name)


@contextmanager
def serving(engine: Engine, image: str, *options: str, **env: str) -> Iterator[Container]:
    """Start a container with a free PORT, unless one is given, and wait until it responds there."""
    port = int(env.get("LISTEN_PORT") or free_port())
    local = {"PORT": str(port), "LISTEN_ADDRESS": "127.0.0.1", "HOST": "127.0.0.1"}
    env = PRODUCTION | local | {"DRAIN_TIMEOUT": "2"} | env
    with container(engine, image, *options, port=port, env=env) as found:
        ready = answers_at(f"{found.base}/livez")
        try:
            wait_for(ready, "the container to answer")
        except AssertionError:
            raise AssertionError(found.log()) from None
        yield found


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Return podman, with the base of the images in its storage."""
    with TemporaryDirectory(prefix="image-") as name:
        folder = Path(name)
        engine = Engine(folder)
        environment = (f"--change=ENV PATH={PATH}", f"--change=ENV SSL_CERT_FILE={BUNDLE}")
        try:
            # podman uses it as python:TAG.
            engine("import", *environment, base(), f"localhost/python:{TAG}")
            yield engine
        finally:
            engine("rm", "--all", "--force", "--time=0")
            engine("system", "reset", "--force")
            assert name not in Path("/proc/mounts").read_text()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("image") / "out"
    folder.mkdir()
    assert cookiecutter(folder).returncode == 0
    return Project(folder / "my-service", "my_service")


@pytest.fixture(scope="module")
def images(engine: Engine, project: Project) -> dict[str, str]:
    """Build both images, and return them by the names of their stages."""
    told = project.make("image", f"ENGINE={engine.command}", **BUILD).stdout
    options = ["--file=deploy/docker/Dockerfile", "--layers", "--target=app"]
    options += ["--build-arg=VERSION=0.1.0", "--build-arg=REVISION=unknown"]
    return {
        "site": told.splitlines()[-1],
        "app": engine.build(project.path, *options),
    }


@pytest.fixture(scope="module")
def account(engine: Engine, images: dict[str, str]) -> str:
    hasher = f"from my_service.passwords import HASHER; print(HASHER.hash({PASSWORD!r}))"
    options = ["--network=none", "--entrypoint=python"]
    options += [f"--ulimit={limit}" for limit in LIMITS]
    return "ada:" + engine("run", "--rm", *options, images["app"], "-c", hasher)


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return options that add the handlers of EXTRA, with a module that every Python imports."""
    folder = tmp_path_factory.mktemp("extra")
    folder.chmod(0o755)
    (folder / "sitecustomize.py").write_text(customized("my_service"))
    return [f"--volume={folder}:/extra:ro", "--env=PYTHONPATH=/extra"]


@pytest.fixture(scope="module")
def mounted(
    engine: Engine, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Installed, list[str]]:
    """Return the parts of an image that a release changes, and options that mount them over it."""
    folder = tmp_path_factory.mktemp("mounted")
    with engine.content(images["site"]) as content:
        (package,) = content.glob("app/.venv/lib/*/site-packages/my_service")
        shutil.copytree(package, folder / "my_service")
        shutil.copytree(content / "app/deploy", folder / "deploy")
        inside = f"/{package.relative_to(content)}"
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.is_dir() else 0))
    volumes = [
        f"--volume={folder}/my_service:{inside}:ro",
        f"--volume={folder}/deploy:/app/deploy:ro",
    ]
    return Installed(folder, folder / "my_service"), volumes


@pytest.fixture(scope="module")
def site(
    engine: Engine,
    images: dict[str, str],
    account: str,
    extra: list[str],
    mounted: tuple[Installed, list[str]],
) -> Iterator[Container]:
    """Run nginx and gunicorn in one container, with as few writable paths as possible."""
    env = {"ADMIN_USERS": account, "MAX_UPLOAD_SIZE": "11MiB"}
    with serving(engine, images["site"], *LOCKED, *VOLUMES, *extra, *mounted[1], **env) as found:
        yield found


def test_the_labels_say_what_it_is(engine: Engine, images: dict[str, str]) -> None:
    for image in images.values():
        (found,) = json.loads(engine("image", "inspect", image))
        labels = {
            key.removeprefix("org.opencontainers.image."): value
            for key, value in found["Labels"].items()
        }
        del labels["io.buildah.version"]
        assert labels == {
            "title": "my-service",
            "description": "A web application built on aiohttp.",
            "url": "https://example.com/",
            "licenses": "MIT",
            "version": "0.1.0",
            "revision": "unknown",
        }
        assert found["User"] == "10001:10001"


def test_a_label_holds_any_text(engine: Engine, bake: Bake, tmp_path: Path) -> None:
    given = hostile_answers()
    dockerfile = (bake(**given).path / "deploy/docker/Dockerfile").read_text()
    (label,) = re.findall(r"^LABEL (?:.*\\\n)*.*\n", dockerfile, re.MULTILINE)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n" + label)
    (found,) = json.loads(engine("image", "inspect", engine.build(tmp_path)))
    assert found["Labels"]["org.opencontainers.image.description"] == given["description"]


def test_only_what_is_needed_is_sent_to_the_builder(
    engine: Engine, project: Project, tmp_path: Path
) -> None:
    for name in (
        ".env",
        ".env.production",
        "data/x",
        "uploads/x",
        ".venv/x",
        "src/__pycache__/x",
        "deploy/y",
    ):
        path = project.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    with engine.content(engine.build(project.path, f"--file={dockerfile}")) as content:
        top = {path.name for path in content.iterdir()}
        assert top == {
            "LICENSE",
            "README.md",
            "deploy",
            "migrations",
            "pyproject.toml",
            "requirements.txt",
            "requirements-build.txt",
            "src",
        }
        assert (content / "deploy/y").exists()
        assert not list(content.rglob("__pycache__"))


@pytest.mark.parametrize("target", ["app", "site"])
def test_nothing_that_builds_is_in_the_images(
    target: str, engine: Engine, images: dict[str, str]
) -> None:
    with engine.content(images[target]) as content:
        folders = [*content.glob("usr/**/bin"), content / "usr/sbin", content / "app/.venv/bin"]
        programs = {path.name for folder in folders for path in folder.iterdir()}
        assert {"python", "gunicorn", "sh"} <= programs
        assert ("nginx" in programs) == (target == "site")
        builders = {"cc", "gcc", "g++", "ld", "make", "uv", "pip", "pip3", "hatch", "hatchling"}
        assert not programs & builders
        packages = {path.name for path in content.rglob("site-packages/*")}
        assert not {"pip", "uv", "hatchling", "pytest", "mypy"} & packages
        # Files made during the build.
        for kind in ("pyc", "br", "gz"):
            assert list(content.glob(f"app/.venv/lib/*/site-packages/my_service/**/*.{kind}"))
        assert not [path for path in content.rglob("*") if path.name.startswith(".env")]
        own = {path for path in content.rglob("*") if path.lstat().st_uid == 10001}
        assert own == {content / "app/data", content / "app/uploads"}


def test_the_dependencies_are_those_of_the_lock(
    engine: Engine, images: dict[str, str], project: Project
) -> None:
    with engine.content(images["app"]) as content:
        found = {
            path.name.removesuffix(".dist-info").lower()
            for path in content.glob("app/.venv/lib/*/site-packages/*.dist-info")
        }
    lock = (project.path / "requirements.txt").read_text()
    locked = {
        f"{name.replace('-', '_')}-{version}"
        for name, version in re.findall(r"^(\S+)==(\S+)", lock, re.MULTILINE)
    }
    assert found - {"my_service-0.1.0"} <= locked
    assert len(found) > 30


def test_nobody_has_privileges(site: Container) -> None:
    commands = site.processes()
    assert len(commands) >= 6, commands
    for pid in commands:
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Uid:\t(10001\t?){4}$", status, re.MULTILINE), status
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        capabilities = re.findall(r"^Cap\w+:\t(\w+)", status, re.MULTILINE)
        assert set(capabilities) == {"0" * 16}


def test_nothing_but_its_folders_can_be_written_to(site: Container) -> None:
    for folder in ("/", "/app", "/app/deploy", "/usr", "/var"):
        assert "Read-only file system" in site.execute("touch", f"{folder}/x").stderr
    # And nothing else tried to write.
    assert not re.search("read-only file system", site.log(), re.IGNORECASE)


def test_the_program_is_healthy_until_the_application_is_not(site: Container) -> None:
    assert site.healthy()
    try:
        site.control("stop", "site:app")
        assert not site.healthy()
    finally:
        site.control("start", "site:app")
    wait_for(site.healthy, "the application to be back")


def test_pages_come_from_the_application_and_files_from_nginx(site: Container) -> None:
    with client() as http:
        page = http.get(f"{site.base}/about")
        file = http.get(f"{site.base}/static/site.css", headers={"Accept-Encoding": "br"})
        script = http.get(f"{site.base}/static/live.js", headers={"Accept-Encoding": "gzip"})
    assert (page.status_code, page.headers["Server"]) == (200, "nginx")
    assert (file.status_code, file.headers["Content-Encoding"]) == (200, "br")
    assert (script.status_code, script.headers["Content-Encoding"]) == (200, "gzip")
    (line,) = site.lines("/about", "nginx")
    (other,) = site.lines("/about", "access")
    assert line["request_id"] == other["request_id"] == page.headers["X-Request-ID"]
    assert line["client"] == other["client"] == "127.0.0.1"
    (line,) = site.lines("/static/site.css", "nginx")
    assert line["upstream"] == ""
    assert not site.lines("/static/site.css", "access")


def test_all_logs_are_json_on_the_standard_output(site: Container) -> None:
    done = site.engine.ask("logs", site.name)
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    loggers = {line["logger"] for line in lines}
    assert {"nginx", "access", "gunicorn.error", "supervisord"} <= loggers
    # nginx logs requests that arrived before the application was listening.
    told = re.compile(r".* connect\(\) to unix:/app/run/sockets/app.sock failed ")
    assert [event for event in loud(lines) if not told.match(event)] == []


def test_the_admin_keeps_files_and_nginx_sends_them(site: Container) -> None:
    content = os.urandom(10 * MIB)
    with client() as http:
        path = upload(http, site.base, content)
        assert http.get(site.base + path).content == content
        cookie = http.cookies["session"]
    (line,) = site.lines(path, "access")
    assert line["bytes"] == 0
    # nginx refuses a body that is too large, and so does the application when contacted directly.
    first = min(site.processes())
    head = f"POST /admin/files/ HTTP/1.1\nHost: 127.0.0.1:{site.port}\nOrigin: {site.base}\n"
    head += f"Cookie: session={cookie}\nContent-Type: multipart/form-data; boundary=x\n"
    head += f"Content-Length: {12 * MIB}\n"
    inside = Path("/proc", str(first), "root")  # the container's files
    for address in (site.port, inside / "app/run/sockets/app.sock"):
        assert ask(address, head)[0] == 413
    refused = [line for line in site.lines("/admin/files/", "nginx") if line["status"] == 413]
    assert [line["upstream"] for line in refused] == [""]


def test_a_websocket_is_passed_through(site: Container) -> None:
    assert run(talk(site.base)) == {"type": "pong"}


def reload(project: Project, engine: Engine) -> None:
    """Make the project find its containers and reload them."""
    project.make("reload", f"ENGINE={engine.command}")


def test_no_request_is_lost_when_it_is_reloaded(
    site: Container, project: Project, engine: Engine, mounted: tuple[Installed, list[str]]
) -> None:
    """Reload with new code, which replaces all of gunicorn."""
    old = {pid for pid, args in site.processes().items() if "gunicorn" in args}
    for release in (rename_module, change_log, change_configuration):
        release(mounted[0])
    mounted[0].announce("all")
    with load([site.port], "/", "/echo") as clients:
        clients.wait_for_all(4, 5)
        reload(project, engine)
        found = told(site.base)
        clients.wait_for_all(4, 20)
    assert clients.failures == []
    assert (found["description"], found["greeting"]) == ("all", "hello")
    wait_for(lambda: not old & site.processes().keys(), "the old processes to end")


def test_gunicorn_that_is_killed_is_replaced(site: Container) -> None:
    before = int(site.control("pid", "site:app"))
    site.execute("sh", "-c", f"kill -KILL {before}")
    wait_for(lambda: int(site.control("pid", "site:app")) not in {0, before}, "another gunicorn")
    wait_for(site.healthy, "the site to be back")


def test_the_variables_of_nginx_have_effect(
    engine: Engine, images: dict[str, str], account: str
) -> None:
    """Run it without mounts or other limits, like ``docker run`` without options."""
    env = {
        "ADMIN_USERS": account,
        "PORT": str(free_port()),
        "LISTEN_PORT": str(free_port()),
        "NGINX_MAX_UPLOAD": "2m",
        "NGINX_WORKER_PROCESSES": "3",
        "NGINX_WORKER_CONNECTIONS": "512",
        "NGINX_WORKER_OPEN_FILES": "2048",
    }
    with serving(engine, images["site"], **env) as found:
        assert not answers_at(f"http://127.0.0.1:{env['PORT']}/livez")()
        workers = [pid for pid, args in found.processes().items() if "nginx: worker" in args]
        assert len(workers) == 3
        for pid in workers:
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"^Max open files +2048 +2048 ", limits, re.MULTILINE)
        running = found.execute("nginx", "-T", "-p", "run", "-c", "/app/run/nginx.conf").stdout
        assert "worker_connections 512;" in running
        with client() as http:
            sign_in(http, found.base)
            url = f"{found.base}/admin/files/"
            sizes = {size: http.post(url, files={"file": b"x" * size}) for size in (MIB, 3 * MIB)}
        assert [answer.status_code for answer in sizes.values()] == [201, 413]
        assert found.healthy()


def test_prestart_is_read_before_the_server_starts(
    engine: Engine, images: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "prestart.sh"
    mount = f"--volume={script}:/app/prestart.sh:ro"
    port = free_port()
    variables = f"export WEB_CONCURRENCY=3 LISTEN_PORT={port}\n"
    script.write_text(f"{variables}echo migrating in $PWD\n")
    env = PRODUCTION | {"LISTEN_ADDRESS": "127.0.0.1", "DRAIN_TIMEOUT": "2"}
    with container(engine, images["site"], mount, port=port, env=env) as found:
        wait_for(answers_at(f"{found.base}/livez"), "it to answer at the port of prestart.sh")
        assert found.healthy()
        assert found.log().startswith("migrating in /app\n")
        wait_for(lambda: str(found.processes()).count("-m gunicorn") == 4, "three workers")
    script.write_text("echo migrating\nfalse\necho done\n")
    with container(engine, images["site"], mount, port=0, env=PRODUCTION) as found:
        assert found.wait() == 1
        assert found.log() == "migrating\n"


def test_the_database_is_brought_up_to_date_once(site: Container) -> None:
    """Neither each worker nor the start of nginx migrates it again."""
    assert site.migrations() == [CONNECTED, UPGRADED]
    with client() as http:
        assert http.get(f"{site.base}/readyz").json() == {"status": "ready", "down": []}


def test_the_database_outlives_the_containers_that_share_it(
    engine: Engine, images: dict[str, str]
) -> None:
    """Two containers that start at the same time migrate it once."""
    options = (*LOCKED, "--tmpfs=/app/run", "--volume=uploads:/app/uploads")
    options += ("--volume=shared:/app/data",)
    variables = PRODUCTION | {"HOST": "127.0.0.1", "API_TOKENS": TOKEN, "DRAIN_TIMEOUT": "2"}
    with ExitStack() as stack, client() as http:
        both = [
            stack.enter_context(
                container(
                    engine, images["app"], *options, port=port, env=variables | {"PORT": str(port)}
                )
            )
            for port in (free_port(), free_port())
        ]
        for each in both:
            wait_for(answers_at(f"{each.base}/readyz"), "it to be ready")
            publish(http, each.base, f"From {each.name}")
        done = [event for each in both for event in each.migrations()]
        assert sorted(done, key=str) == [CONNECTED, CONNECTED, UPGRADED]
    with serving(engine, images["app"], *options) as found, client() as http:
        page = http.get(f"{found.base}/news").text
        assert all(f"From {each.name}" in page for each in both)
        assert found.migrations() == [CONNECTED]


def test_copy_of_the_database_is_put_back_as_documented(
    engine: Engine, images: dict[str, str], project: Project, tmp_path: Path
) -> None:
    make, start, copy, stop, restore, again = sections(project, DEPLOY)["One container"]
    assert make == "make image"  # the images were built with it
    found = Container(engine, "my-service", free_port())
    variables = PRODUCTION | {"API_TOKENS": TOKEN, "DRAIN_TIMEOUT": "2", "PORT": str(found.port)}
    settings = [f"{name}={value}\n" for name, value in variables.items()]
    (tmp_path / ".env.production").write_text("".join(settings))
    # Run it in the network of the host, within the limits of this machine.
    options = " ".join(["--network=host", *(f"--ulimit={limit}" for limit in LIMITS)])
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\n[ "$1" != run ] || {{ shift; set -- run {options} "$@"; }}\n'
        f'exec {engine.command} "$@"\n'
    )
    docker.chmod(0o755)

    def shell(command: str) -> None:
        path = f"{tmp_path}:{os.environ['PATH']}"
        subprocess.run(
            command, shell=True, cwd=tmp_path, env=clean_environment(PATH=path), check=True
        )

    try:
        shell(start.replace("docker run", "docker run --detach").replace("--publish 8080:8080", ""))
        with client() as http:
            wait_for(answers_at(f"{found.base}/readyz"), "it to be ready")
            publish(http, found.base, "In the copy")
            shell(copy)
            assert found.execute("stat", "-c", "%a", "data/backup.db").stdout.strip() == "600"
            publish(http, found.base, "Later than the copy")
            shell(stop)
            shell(restore)
            shell(again)
            wait_for(answers_at(f"{found.base}/readyz"), "it to be ready again")
            news = http.get(f"{found.base}/news").text
            assert "In the copy" in news
            assert "Later than the copy" not in news
            publish(http, found.base, "Afterwards")
    finally:
        engine("rm", "--force", "--time=0", "--ignore", found.name)
        engine("volume", "rm", "data")  # compose.yaml has one with the same name


def test_a_wrong_setting_is_named(engine: Engine, images: dict[str, str]) -> None:
    for image in images.values():
        with container(engine, image, port=0, env={"LOG_LEVEL": "LOUD"}) as found:
            assert found.wait() == 1
            assert "LOG_LEVEL: " in found.log()
            assert "SECRET_KEYS: " in found.log()
        env = {"ENVIRONMENT": "development", "SECRET_KEYS": SECRET}
        with container(engine, image, port=0, env=env) as found:
            assert found.wait() == 1
            assert "ENVIRONMENT=development is for this host alone" in found.log()


def test_gunicorn_alone_on_the_port_of_a_platform(
    engine: Engine, images: dict[str, str], extra: list[str]
) -> None:
    """Run it as an arbitrary user, chosen by the platform."""
    options = (*LOCKED, *extra, "--user=23456:23456")
    elsewhere = {"UPLOAD_FOLDER": "/tmp/uploads", "DATABASE_URL": "sqlite:////tmp/app.db"}
    with serving(engine, images["app"], *options, **elsewhere) as found:
        first, *others = found.processes()
        assert engine("top", found.name, "pid").split()[:2] == ["PID", "1"]
        assert "serve.py" in found.processes()[first]
        assert found.healthy()
        with load([found.port], "/", "/echo") as clients:
            wait_for(lambda: len(clients.answers) == 4, "all kinds of clients")
            found.signal("HUP")
            wait_for(lambda: not {*others} & {*found.processes()}, "the old workers to end")
        assert clients.failures == []
        assert [line["status"] for line in found.lines("/", "access")][:1] == [200]
        found.signal("TERM")
        assert found.wait() == 0


@pytest.fixture(scope="module")
def rooted(engine: Engine, images: dict[str, str], account: str) -> Iterator[Container]:
    """Run a container as root, as on a host, with a run folder that only root can write to."""
    prepare = "rm -f prestart.sh && chmod 755 run && exec deploy/start.sh"
    options = ("--user=0:0", f"--entrypoint={json.dumps(['sh', '-c', prepare])}")
    variables = {"ADMIN_USERS": account, "SERVICE_USER": "app", "WEB_CONCURRENCY": "2"}
    variables |= {"API_TOKENS": TOKEN, "LISTEN_PORT": str(free_port())}
    with serving(engine, images["site"], *options, **variables) as found:
        yield found


def test_root_gives_its_privileges_up(rooted: Container) -> None:
    """Only nginx's master, supervisord and its log writer keep root's privileges."""
    owners = {
        args.split(maxsplit=1)[1]: int(Path(f"/proc/{pid}").stat().st_uid)
        for pid, args in rooted.processes().items()
    }
    (master, *_) = (pid for pid, args in rooted.processes().items() if "gunicorn" in args)
    assert {"HOME=/app", "LOGNAME=app"} < set(
        Path(f"/proc/{master}/environ").read_text().split("\0")
    )
    privileged = [args for args, owner in owners.items() if owner != 10001]
    assert len(privileged) == 3, owners
    assert all("supervisord" in args or "nginx: master" in args for args in privileged)
    with client() as http:
        assert http.get(f"{rooted.base}/static/site.css").status_code == 200
        path = upload(http, rooted.base, bytes(10 * MIB))
        assert http.get(rooted.base + path).content == bytes(10 * MIB)
        publish(http, rooted.base, "By the service")
    kept = rooted.execute("find", "data", "-type", "f", "-printf", "%M %u:%g\n").stdout
    assert set(kept.splitlines()) == {"-rw-r----- app:app"}


ATTACK = """
import os, sys
from contextlib import suppress
from pathlib import Path

home, *given = sys.argv[1:]
names = {path.name for path in Path("/app/run").rglob("*")} | set(given)
for folder, _, _ in os.walk("/"):
    if folder.startswith(("/proc", "/sys")):
        continue
    for number, name in enumerate(sorted(names)):
        path = Path(folder, name)
        target = f"{home}/new-{number}" if number % 2 else f"{home}/old"
        with suppress(OSError):
            if not path.is_socket():  # or it would only stop itself
                path.rename(path.with_name(f"{name}.before"))
        with suppress(OSError):
            path.symlink_to(target)
            print(path)
"""
"""Script that the service runs: replace everything root may open with links to root's files."""


def test_service_cannot_take_files_of_root(rooted: Container) -> None:
    """This must hold whether or not the kernel protects links in world-writable folders."""
    home = rooted.execute("sh", "-c", "echo ~root").stdout.strip()
    rooted.execute("sh", "-c", f"umask 077; rm -f {home}/*; echo ours > {home}/old")
    rendered = rooted.execute("sh", "-c", "cat run/*.conf").stdout
    named = {Path(path) for path in re.findall(r"/app/run[\w./-]*", rendered)}
    opened = rooted.execute("sh", "-c", "readlink /proc/1/fd/*").stdout.split()
    names = {path.name for path in named} | {Path(path).name for path in opened}
    service = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups"]
    names |= {"error.log", "access.log", "next", "trial.sock"}
    planted = rooted.execute(*service, "python", "-c", ATTACK, home, *names)
    paths = {Path(path) for path in planted.stdout.split()}
    # The service owns only the folder for sockets, and nginx's workers own their temporary folders.
    folders = {path.parent for path in paths if path.is_relative_to("/app/run")}
    assert Path("/app/run/sockets") in folders
    allowed = re.compile(r"/app/run/(sockets|nginx_(body|proxy|fastcgi|scgi|uwsgi)(/\d+)*)")
    assert all(allowed.fullmatch(str(folder)) for folder in folders), folders
    assert {Path("/tmp"), Path("/app/data"), Path("/app/uploads")} < {path.parent for path in paths}
    # Everything that root repeats: reload, read the configuration, open the logs, start.
    commands = [
        "deploy/reload.sh",
        "supervisorctl -c run/supervisord.conf signal HUP site:nginx",
        "supervisorctl -c run/supervisord.conf signal USR1 site:nginx",
        "python deploy/render.py nginx/nginx.conf nginx/site.conf supervisord/supervisord.conf run",
    ]
    for command in commands:
        done = rooted.execute("sh", "-c", command)
        # The service itself may fail to start, because of the links in the uploads.
        by_itself = "gunicorn ended with status" in done.stderr
        assert done.returncode == 0 or by_itself, done.stdout + done.stderr
    rooted.engine("restart", "--time=60", rooted.name)
    wait_for(answers_at(f"{rooted.base}/static/site.css"), "nginx to serve again")
    found = rooted.execute("sh", "-c", f"cd {home} && stat -c '%n %U %a' * && cat old").stdout
    assert found == "old root 600\nours\n"
    # And root has left nothing where the service could write before.
    places = " ".join(sorted({str(path.parent) for path in paths}))
    left = rooted.execute("sh", "-c", f"find {places} -mindepth 1 -maxdepth 1 -uid 0").stdout
    assert left == ""
    rooted.engine("rm", "--force", "--time=0", rooted.name)  # it would fail to reload


def test_root_does_not_start_in_a_folder_of_others(engine: Engine, images: dict[str, str]) -> None:
    """The image's folder is writable by others, for the user that a platform chooses."""
    variables = PRODUCTION | {"SERVICE_USER": "app"}
    with container(engine, images["site"], "--user=0:0", port=0, env=variables) as found:
        assert found.wait() == 1
        assert "/app/run: root does not write here, as others may" in found.log()


async def stop_while_busy(base: str, containers: dict[Container, str]) -> tuple[str, int | None]:
    """Stop all containers with a signal each, during a request and with an open WebSocket.

    Return the results of both.
    """
    async with aiohttp.ClientSession() as session:
        connect = session.ws_connect(f"{base}/live", protocols=["live.v1"], origin=base)
        async with connect as websocket:
            await websocket.send_json({"type": "ping"})
            await websocket.receive_json(timeout=10)
            slow = asyncio.create_task(session.get(f"{base}/slow?seconds=3"))
            await asyncio.sleep(1)
            for each, signal in containers.items():
                each.signal(signal)
            await websocket.receive(timeout=20)
            async with await slow as answer:
                return await answer.text(), websocket.close_code


def test_all_stop_gracefully(engine: Engine, images: dict[str, str], extra: list[str]) -> None:
    with serving(engine, images["site"], *LOCKED, *VOLUMES, *extra) as found:
        assert run(stop_while_busy(found.base, {found: "TERM"})) == ("slept", 1001)
        assert found.wait() == 0


def options_of(service: dict[str, Any], env_file: Path) -> tuple[list[str], dict[str, str]]:
    """Return the engine's options and environment for a service of compose.yaml."""
    service = dict(service)
    for key in ("image", "build", "depends_on", "ports", "restart", "stop_grace_period"):
        service.pop(key, None)
    assert service.pop("env_file") == "../../.env.production"
    environment = {
        name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)
        for name, value in service.pop("environment", {}).items()
    }
    options = ["--read-only"] if service.pop("read_only") else []
    entrypoint = [word.replace("$$", "$") for word in service.pop("entrypoint")]
    options += [f"--entrypoint={json.dumps(entrypoint)}"]
    options += [f"--env-file={env_file}", f"--stop-signal={service.pop('stop_signal', 'SIGTERM')}"]
    names = {"volumes": "volume", "tmpfs": "tmpfs", "cap_drop": "cap-drop"} | {
        "security_opt": "security-opt"
    }
    for key, option in names.items():
        options += [f"--{option}={value}" for value in service.pop(key)]
    assert service == {}
    return options, environment


def test_what_compose_runs(
    engine: Engine,
    images: dict[str, str],
    project: Project,
    account: str,
    extra: list[str],
    tmp_path: Path,
) -> None:
    """Start nginx and the application in two containers without Compose, on the host's network."""
    settings = tmp_path / ".env.production"
    settings.write_text(
        f"SECRET_KEYS={SECRET}\nADMIN_USERS={account}\nAPI_TOKENS={TOKEN}\nDRAIN_TIMEOUT=2\n"
    )
    compose = yaml.safe_load((project.path / "deploy/docker/compose.yaml").read_text())
    app, nginx, migrate = (compose["services"][name] for name in ("app", "nginx", "migrate"))
    assert app["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert app["build"]["target"] == "app"
    assert migrate["image"] == app["image"]
    assert "target" not in nginx["build"]
    assert nginx["ports"] == [f"${{PUBLISH:-8080}}:{nginx['environment']['LISTEN_PORT']}"]
    local = {"LISTEN_ADDRESS": "127.0.0.1", "LISTEN_PORT": str(port := free_port())}
    options, env = options_of(app, settings)
    there, env_there = options_of(nginx, settings)
    with container(
        engine, images["app"], *options_of(migrate, settings)[0], port=0, env={}
    ) as once:
        assert once.wait() == 0
        assert once.migrations() == [CONNECTED, UPGRADED]
    with (
        container(engine, images["app"], *options, *extra, port=port, env=env) as inner,
        container(engine, images["site"], *there, port=port, env=env_there | local) as outer,
        client() as http,
    ):
        wait_for(outer.healthy, "both to answer")
        assert inner.healthy()
        assert "Listening at: unix:/app/run/sockets/app.sock" in inner.log()
        assert not any("gunicorn" in args for args in outer.processes().values())
        assert not any("nginx" in args for args in inner.processes().values())
        assert http.get(f"{outer.base}/static/site.css").status_code == 200
        publish(http, outer.base, "Composed")
        assert inner.migrations() == outer.migrations() == []
        path = upload(http, outer.base, b"x" * MIB)
        assert http.get(outer.base + path).content == b"x" * MIB
        assert [line["bytes"] for line in inner.lines(path, "access")] == [0]
        reload(project, engine)
        assert inner.log().count("all workers (2) are ready") == 2
        (line,) = outer.lines(path, "nginx")
        assert (line["client"], line["status"]) == ("127.0.0.1", 200)
        signals = {inner: app.get("stop_signal", "SIGTERM"), outer: nginx["stop_signal"]}
        assert run(stop_while_busy(outer.base, signals)) == ("slept", 1001)
        assert [inner.wait(), outer.wait()] == [0, 0]
