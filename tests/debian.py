"""Debian trees with the Python that runs the tests in /usr/local: the base of the images, and a
machine that systemd boots. Requires root and the Debian packages.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from conftest import ROOT

LIBRARIES = (
    "ca-certificates,libbz2-1.0,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3"
)
"""Libraries that CPython loads when it is built from source."""
PYTHON = "python3-venv"
"""Package with Debian's Python, used if that runs the tests: it cannot be moved to /usr/local."""
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
SLIM = ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists"]
"""Folders that are empty in the base image of the Docker library."""
OURS = ["apt/apt.conf.d", "apt/sources.list", "apt/sources.list.d", "pip.conf", "resolv.conf"]
"""Paths below /etc that configure how this machine reaches its package registries."""


def copy(source: Path, target: Path, *excluded: str) -> None:
    """Copy the contents of a folder, without the excluded names."""
    target.mkdir(parents=True, exist_ok=True)
    options = [f"--exclude={name}" for name in excluded]
    with subprocess.Popen(
        ["tar", "--create", *options, "--directory", str(source), "."], stdout=subprocess.PIPE
    ) as packing:
        unpack = ["tar", "--extract", "--directory", str(target)]
        subprocess.run(unpack, stdin=packing.stdout, check=True)
    assert packing.returncode == 0


def kept(name: str, make: Callable[[Path], None], *made_of: str) -> Path:
    """Return a tree as a tar file in .cache/trees; rebuild it if one of its sources has changed."""
    assert os.geteuid() == 0, "Debian trees have to be made by root"
    folder = ROOT / ".cache/trees"
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).read_text()
    key = hashlib.sha256("\0".join([source, sys.version, *made_of]).encode()).hexdigest()[:16]
    packed = folder / f"{name}-{key}.tar"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes run the tests
        if not packed.exists():
            for old in folder.glob(f"{name}-*"):
                old.unlink()
            with TemporaryDirectory(prefix="tree-") as made:
                make(Path(made) / "tree")
                part = packed.with_suffix(".part")
                slim = [f"--exclude=./{path}/*" for path in SLIM]
                pack = [
                    "tar",
                    "--create",
                    "--file",
                    str(part),
                    *slim,
                    "--directory",
                    f"{made}/tree",
                ]
                subprocess.run([*pack, "."], check=True)
            part.rename(packed)
    return packed


def base() -> Path:
    """Return a tar file with the contents of the Docker library's base image for Python."""
    return kept("base", bootstrap, platform.freedesktop_os_release()["VERSION_CODENAME"])


def bootstrap(folder: Path) -> None:
    """Build a small tree with LIBRARIES and Python."""
    cache = ROOT / ".cache/debs"
    cache.mkdir(parents=True, exist_ok=True)
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    debians = sys.base_prefix == "/usr"
    include = ",".join(filter(None, (LIBRARIES, PYTHON if debians else "")))
    command = ["debootstrap", "--variant=minbase", f"--include={include}", f"--cache-dir={cache}"]
    for _ in range(3):  # a package may fail to download
        done = subprocess.run(
            [*command, suite, folder], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    # Programs called by name alone, such as `python3` and `pip`, are found first in /usr/local.
    if debians:
        chroot(folder, "python3", "-m", "venv", "/usr/local")
    else:
        install_python(folder)
    (folder / "etc/apt/sources.list").unlink()  # otherwise both files would name the same packages
    for name in OURS:
        source, target = Path("/etc", name), folder / "etc" / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy(source, target)
    shutil.copy(BUNDLE, folder / BUNDLE.lstrip("/"))
    # As in the base image of the Docker library: installing a service does not start it.
    policy = folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def tree(folder: Path, *packages: str) -> Path:
    """Unpack a tree with Python and these packages into the folder, and return the folder."""

    def install(made: Path) -> None:
        unpack(base(), made)
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            chroot(made, "apt-get", *command, DEBIAN_FRONTEND="noninteractive")

    unpack(kept("machine", install, *packages), folder)
    return folder


def unpack(packed: Path, folder: Path) -> None:
    """Unpack a tree, and restore its owners and devices."""
    folder.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--file", packed, "--directory", folder], check=True)


def install_python(folder: Path) -> None:
    """Copy the Python that runs the tests into /usr/local of a tree."""
    prefix, local = Path(sys.base_prefix), folder / "usr/local"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    copy(prefix / "lib", local / "lib", "site-packages/*", "test", "config-*", "__pycache__")
    shutil.copy(prefix / "bin" / version, local / "bin")
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(version)
    chroot(folder, "ldconfig")
    chroot(folder, "python3", "-m", "ensurepip", "--default-pip")


def chroot(folder: Path, *command: str, **environment: str) -> None:
    """Run a command in a tree, with /proc. Raise AssertionError with its output if it fails."""
    enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", enter, folder, *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
