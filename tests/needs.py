"""Probes for what this machine can do. Tests that need more are skipped, and listed at the end.

A module declares what its tests need: ``pytestmark = needs("nginx", "containers")``. A name is a
probe below, a program, or a path.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest


def _root() -> str | None:
    return None if os.geteuid() == 0 else "root"


def _works(what: str, *command: str) -> str | None:
    """Run a command in its own namespaces. Return what is missing if it fails."""
    try:
        done = subprocess.run(
            ["unshare", *command], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError as error:
        return f"{what} ({error})"
    return f"{what} ({done.stderr.strip()})" if done.returncode else None


def _user_namespaces() -> str | None:
    return _works("user namespaces", "--user", "--map-root-user", "--mount", "true")


def _containers() -> str | None:
    """Return what is missing to run podman as root: mounts, namespaces and chroot."""
    mount = "mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b /mnt/c /mnt/d && "
    mount += "mount -t overlay none -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c /mnt/d && "
    mount += "chroot / true"
    spaces = ["--mount", "--pid", "--ipc", "--uts", "--net", "--fork"]
    return _root() or _works("a machine that allows containers", *spaces, "sh", "-ec", mount)


def _systemd() -> str | None:
    """Return what is missing to boot systemd: the needs of containers, and control groups."""
    if lacks := _containers():
        return lacks
    root = Path("/sys/fs/cgroup")
    hierarchy = next(
        (each for each in (root, root / "unified") if (each / "cgroup.procs").exists()), None
    )
    try:
        if hierarchy is None:
            raise FileNotFoundError("/sys/fs/cgroup is not mounted")
        group = hierarchy / f"probe-{os.getpid()}"
        group.mkdir()
        group.rmdir()
    except OSError as error:
        return f"control groups that may be written to ({error})"
    return None


def _browser() -> str | None:
    """Return what is missing to run Chromium with Playwright's bundled Node.js."""
    if not shutil.which("chromium"):
        return "the program chromium"
    version = [sys.executable, "-m", "playwright", "--version"]
    done = subprocess.run(version, capture_output=True, text=True, check=False)
    return f"a Playwright that runs ({done.stderr.strip()})" if done.returncode else None


PROBES: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "user namespaces": _user_namespaces,
    "containers": _containers,
    "systemd": _systemd,
    "browser": _browser,
    "linux": lambda: None if sys.platform == "linux" else "Linux",
}


@cache
def missing(need: str) -> str | None:
    """Return what this machine lacks for a need, or None if it lacks nothing."""
    if probe := PROBES.get(need):
        return probe()
    if need.startswith("/"):
        return None if Path(need).exists() else need
    # Debian does not put PostgreSQL's programs on the path.
    path = ":".join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    return None if shutil.which(need, path=path) else f"the program {need}"


def needs(*names: str) -> pytest.MarkDecorator:
    """Return a mark for tests that need these probes or programs."""
    return pytest.mark.needs(*names)
