"""Releases under load: working ones are deployed, broken ones are refused, and no request fails."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Project, client, sign_in, wait_for
from load import load
from needs import needs
from releases import (
    TEAPOT,
    Copy,
    add_setting,
    change_configuration,
    change_log,
    edit,
    rename_module,
    told,
    update_dependency,
)
from stack import Stack, children, stack
from workers import workers

KINDS = [
    pytest.param(kind, marks=pytest.mark.xdist_group(f"release-{kind}"))
    for kind in ("gunicorn", "pool")
]
RELEASES: list[Callable[[Copy], None]] = [
    add_setting,
    rename_module,
    change_log,
    change_configuration,
    update_dependency,
]


def version_shown(http: httpx.Client, base: str) -> str:
    """Return the version of ``tiny`` on the overview."""
    page = http.get(f"{base}/admin/").text
    return page.partition("<dt>tiny</dt>")[2].partition("<dd>")[2].partition("<")[0]


def maps_deleted_files(pid: int) -> bool:
    """Return True if a process has mapped shared libraries that were deleted from the disk."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return any(line.endswith("(deleted)") and "site-packages" in line for line in maps)


@pytest.fixture(params=KINDS, scope="module")
def running(
    request: pytest.FixtureRequest,
    installed: Project,
    account: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Copy, Stack]]:
    """Run a copy of the project in a stack; yield both."""
    copy = Copy(installed, tmp_path_factory.mktemp("copy"))
    variables = {"ADMIN_USERS": account, "DRAIN_TIMEOUT": "2.5"}
    with stack(copy.project, request.param, **variables) as site:
        yield copy, site


def reload(site: Stack, release: str) -> None:
    """Reload under load. No request fails, and the new release responds."""
    old = site.workers()
    with load([site.port], "/", "/echo") as clients:
        clients.wait_for_all(4, 10)
        done = site.make("reload")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "reloaded after " in done.stdout
        assert told(site.base)["description"] == release  # as soon as the command reports it
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
                # although another version is on the disk
                assert version_shown(http, site.base) == "1.0"
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
    # nginx logs requests that arrived before the application, and members of a pool that are gone.
    lines = [line for line in site.lines() if line["logger"] != "nginx.error"]
    errors = [line for line in lines if line["level"] in {"error", "critical"}]
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
    # If a worker ends now, no new one can start, but only its own requests fail.
    with copy.broken(*BROKEN["compiles not"][:3]), load([site.port], "/", "/echo") as clients:
        clients.wait_for_all(4, 10)
        os.kill(min(site.workers()), signal.SIGKILL)
        wait_for(lambda: "SyntaxError" in site.server.output(), "another one to fail")
        clients.wait_for_all(4, 50)
    assert len(clients.failures) <= 8, clients.failures
    # A correct release is deployed, nginx's files included.
    edit(copy.path / "deploy/nginx/site.conf", "    server_tokens off;", TEAPOT)
    done = site.make("reload")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(site.workers() - {0}) == 2, "both workers")
    with client() as http:
        assert http.get(f"{site.base}/tea").status_code == 418


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
