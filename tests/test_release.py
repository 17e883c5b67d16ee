"""New versions of the project, taken into use while requests come; and broken ones, which are not."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import Project, client, sign_in, wait_for
from load import load
from needs import needs
from stack import Stack, children, stack
from workers import workers

KINDS = [
    pytest.param(kind, marks=pytest.mark.xdist_group(f"release-{kind}"))
    for kind in ("gunicorn", "pool")
]
COMPILED = "markupsafe"
"""A dependency with a library in machine code."""


class Copy:
    """A copy of the project, whose files are changed as by a release.

    The page /about tells programs which release it is, and the version of ``tiny``, on which the
    copy depends.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        """Copy it, with a virtual environment that has all that is installed in the other one."""
        self.path = folder / project.path.name
        left = (".venv", ".env", "data", "uploads", "run", ".*_cache", "__pycache__")
        shutil.copytree(project.path, self.path, ignore=shutil.ignore_patterns(*left))
        self.project = Project(self.path, project.package)
        self.package = self.path / "src" / project.package
        venv = self.path / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        (self.library,) = venv.glob("lib/*/site-packages")
        (self.other,) = project.path.glob(".venv/lib/*/site-packages")
        (self.library / "copy.pth").write_text(f"{self.path}/src\n{self.other}\n")
        for name in ("alembic", "gunicorn", "supervisord", "supervisorctl"):
            program = self.project.bin / name
            text = (project.bin / name).read_text()
            program.write_text(text.replace(str(project.path), str(self.path)))
            program.chmod(0o755)
        (self.path / ".env").write_text("")
        self.install("1.0")
        pages, overview = self.package / "site/pages.py", self.package / "admin/overview.py"
        edit(pages, '"author": about.AUTHOR', '"tiny": tiny.VERSION')
        edit(pages, "\nfrom ", "\nimport tiny\nfrom ")
        edit(overview, "PACKAGES = (", 'PACKAGES = ("tiny", ')

    def install(self, version: str) -> None:
        """Install a version of ``tiny``, and COMPILED anew, in place of what is there."""
        for old in (*self.library.glob("tiny-*"), *self.library.glob(COMPILED)):
            shutil.rmtree(old)
        shutil.copytree(self.other / COMPILED, self.library / COMPILED)
        (self.library / "tiny.py").write_text(f"VERSION = {version!r}\n")
        information = self.library / f"tiny-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
        )

    def announce(self, release: str) -> None:
        """Have the page tell of this release."""
        about = self.package / "about.py"
        lines = about.read_text().splitlines()
        kept = [line for line in lines if not line.startswith("DESCRIPTION")]
        about.write_text("\n".join([*kept, f'DESCRIPTION: Final = "{release}"', ""]))

    @contextmanager
    def broken(self, name: str, old: str, new: str) -> Iterator[None]:
        """Replace a text in a file for a while; an empty one is the end of the file."""
        path = self.path / name.replace("PACKAGE", f"src/{self.project.package}")
        before = path.read_text()
        if old:
            edit(path, old, new)
        else:
            path.write_text(before + new)
        try:
            yield
        finally:
            path.write_text(before)


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first of these texts in a file."""
    text = path.read_text()
    assert old in text, f"{path}: {old}"
    path.write_text(text.replace(old, new, 1))


def add_setting(copy: Copy) -> None:
    edit(copy.package / "settings.py", "    @property\n", "    motto: str\n\n    @property\n")
    (copy.path / ".env").write_text("MOTTO=tea for all\n")
    pages = copy.package / "site/pages.py"
    edit(pages, "about_json(_request", "about_json(request")
    edit(pages, '{"name": ', '{"motto": request.config_dict[SETTINGS].motto, "name": ')
    edit(pages, "from ..web.headers", "from ..settings import SETTINGS\nfrom ..web.headers")


def rename_module(copy: Copy) -> None:
    (copy.package / "normalization.py").rename(copy.package / "cleaning.py")
    for path in copy.package.rglob("*.py"):
        path.write_text(path.read_text().replace("normalization import", "cleaning import"))


def change_log(copy: Copy) -> None:
    edit(copy.package / "logs.py", 'event["timestamp"]', 'event["moment"]')


def change_configuration(copy: Copy) -> None:
    edit(copy.package / "deployment.py", '"json": ', '"greeting": "hello", "json": ')
    conf = copy.path / "deploy/gunicorn.conf.py"
    edit(conf, "\nbind = ", "\nraw_env = [f\"GREETING={values['greeting']}\"]\nbind = ")
    pages = copy.package / "site/pages.py"
    edit(pages, '{"motto": ', '{"greeting": os.environ.get("GREETING"), "motto": ')
    edit(pages, "import tiny", "import os\nimport tiny")


def update_dependency(copy: Copy) -> None:
    copy.install("2.0")


RELEASES: list[Callable[[Copy], None]] = [
    add_setting,
    rename_module,
    change_log,
    change_configuration,
    update_dependency,
]


def told(base: str) -> dict[str, str]:
    """Return what /about tells programs."""
    with client() as http:
        answer = http.get(f"{base}/about", headers={"Accept": "application/json"})
        assert answer.status_code == 200
        return dict(answer.json())


def version_shown(http: httpx.Client, base: str) -> str:
    """Return the version of ``tiny`` on the overview."""
    page = http.get(f"{base}/admin/").text
    return page.partition("<dt>tiny</dt>")[2].partition("<dd>")[2].partition("<")[0]


def maps_deleted_files(pid: int) -> bool:
    """Tell whether a process uses machine code that is on the disk no more."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return any(line.endswith("(deleted)") and "site-packages" in line for line in maps)


@pytest.fixture(params=KINDS, scope="module")
def running(
    request: pytest.FixtureRequest,
    installed: Project,
    account: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Copy, Stack]]:
    """A copy of the project, and the stack that runs it."""
    copy = Copy(installed, tmp_path_factory.mktemp("copy"))
    variables = {"ADMIN_USERS": account, "DRAIN_TIMEOUT": "2.5"}
    if request.param == "pool":  # whose members are stopped one after the other
        variables["KEEPALIVE_TIMEOUT"] = "0.375"
    with stack(copy.project, request.param, **variables) as site:
        yield copy, site


def reload(site: Stack, release: str) -> None:
    """Reload while requests come: none is lost, and what answers is new."""
    old = site.workers()
    with load([site.port], "/", "/echo") as clients:
        clients.wait_for_all(4, 10)
        done = site.make("reload")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "reloaded after " in done.stdout
        assert told(site.base)["description"] == release  # as soon as that is said
        wait_for(lambda: not old & set(site.server.group()), "the old processes to end")
        clients.wait_for_all(4, 20)
    assert clients.failures == []


@needs("nginx", "user namespaces")
def test_releases_lose_no_request(running: tuple[Copy, Stack]) -> None:
    copy, site = running
    pool = "app" not in site.members()
    steps = [RELEASES[:1], RELEASES[1:3], RELEASES[3:]]
    before = site.server.output()
    for number, releases in enumerate(steps):
        for release in releases:
            release(copy)
        copy.announce(f"release {number}")
        if number == 0:
            site.kill_under_load(min(site.workers()))
        if number == len(steps) - 1:
            with client() as http:
                sign_in(http, site.base)
                assert version_shown(http, site.base) == "1.0"  # though another is on the disk
            assert all(maps_deleted_files(pid) for pid in site.workers())
        reload(site, f"release {number}")
    found = told(site.base)
    assert (found["motto"], found["tiny"]) == ("tea for all", "2.0")
    assert found["greeting"] == (None if pool else "hello")
    assert {"moment"} < set(site.wrote("/about", "access")[-1])
    with client() as http:
        sign_in(http, site.base)
        assert version_shown(http, site.base) == "2.0"
    masters = [] if pool else children(site.members()["app"])
    assert not any(maps_deleted_files(pid) for pid in (*masters, *site.workers()))
    errors = [line for line in site.lines() if line.get("level") in {"error", "critical"}]
    assert [line["event"] for line in errors if "was sent SIGKILL" not in str(line["event"])] == []
    assert "Traceback" not in site.server.output()[len(before) :]


BROKEN = {
    "compiles not": ("PACKAGE/site/pages.py", "", "tea = (\n", "SyntaxError"),
    "wrong setting": (".env", "", "LOG_LEVEL=LOUD\n", "LOG_LEVEL: Input should be"),
    "bus": ("PACKAGE/live/__init__.py", "await bus.open()", "raise OSError('no tea')", "no tea"),
    "configuration": (
        "deploy/gunicorn.conf.py",
        "    seconds =",
        "    tea()\n    seconds =",
        "'tea'",
    ),
    "nginx": ("deploy/nginx/site.conf", "server_tokens off;", "tea on;", 'directive "tea"'),
    "certificate": (
        *(".env", "", "TLS_CERTIFICATE=certs/tea.pem\nTLS_KEY=certs/tea.key\n"),
        "cannot load certificate",
    ),
}
OF_GUNICORN = {"configuration"}


@needs("nginx", "user namespaces")
def test_broken_release_fails_and_changes_nothing(running: tuple[Copy, Stack]) -> None:
    copy, site = running
    pool = "app" not in site.members()
    before = site.pids(), site.workers()
    conf = (site.run / "site.conf").read_text()
    for name, (path, old, new, said) in BROKEN.items():
        if pool and name in OF_GUNICORN:
            continue
        with copy.broken(path, old, new):
            done = site.make("reload")
        assert done.returncode != 0, f"{name}: {done.stdout}"
        assert said in done.stderr, f"{name}: {done.stderr}"
        assert (site.pids(), site.workers()) == before, name
        assert (site.run / "site.conf").read_text() == conf, name
        told(site.base)
    # A worker that ends while the files are so is missed, but no more than that.
    with copy.broken(*BROKEN["compiles not"][:3]), load([site.port], "/", "/echo") as clients:
        clients.wait_for_all(4, 10)
        os.kill(min(site.workers()), signal.SIGKILL)
        wait_for(lambda: "SyntaxError" in site.server.output(), "another one to fail")
        clients.wait_for_all(4, 50)
    assert len(clients.failures) <= 8, clients.failures
    # What is right is taken into use, nginx's files too.
    edit(copy.path / "deploy/nginx/site.conf", "    server_tokens off;", TEAPOT)
    done = site.make("reload")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(site.workers() - {0}) == 2, "both workers")
    with client() as http:
        assert http.get(f"{site.base}/tea").status_code == 418


TEAPOT = "    server_tokens off;\n    location = /tea { return 418; }"


def test_gunicorn_alone_takes_a_release_at_hup(installed: Project, tmp_path: Path) -> None:
    copy = Copy(installed, tmp_path)
    with workers(copy.project, tmp_path) as site:
        assert told(site.base)["tiny"] == "1.0"
        for release in RELEASES:
            release(copy)
        copy.announce("all")
        with load([site.port], "/", "/echo") as clients:
            site.reload()
            clients.wait_for_all(4, 20)
        assert clients.failures == []
        found = told(site.base)
    assert [found[key] for key in ("description", "motto", "tiny")] == ["all", "tea for all", "2.0"]
    assert found["greeting"] == "hello"
