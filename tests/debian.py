"""Debian trees of the tests' own, with the Python that runs the tests in /usr/local: for an image's
base, and for a machine that systemd boots. They need root, and Debian's packages.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

LIBRARIES = (
    "ca-certificates,libbz2-1.0,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3"
)
"""What CPython loads, where it is built from source."""
PYTHON = "python3-venv"
"""Debian's own Python, where that runs the tests: it cannot be moved to /usr/local."""
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
OURS = ["apt/apt.conf.d", "apt/sources.list", "apt/sources.list.d", "pip.conf", "resolv.conf"]
"""How this machine reaches its registries, below /etc."""


def copy(source: Path, target: Path, *excluded: str) -> None:
    """Copy a folder's contents, without what is excluded by name."""
    target.mkdir(parents=True, exist_ok=True)
    options = [f"--exclude={name}" for name in excluded]
    with subprocess.Popen(
        ["tar", "--create", *options, "--directory", source, "."], stdout=subprocess.PIPE
    ) as packing:
        unpack = ["tar", "--extract", "--directory", target]
        subprocess.run(unpack, stdin=packing.stdout, check=True)
    assert packing.returncode == 0


def tree(folder: Path, packages: str = "") -> Path:
    """Make a tree with these packages, separated by commas, and return it."""
    assert os.geteuid() == 0, "the tests of the image and of systemd have to be run by root"
    cache = ROOT / ".cache/debs"
    cache.mkdir(parents=True, exist_ok=True)
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    debians = sys.base_prefix == "/usr"
    include = ",".join(filter(None, (LIBRARIES, PYTHON if debians else "", packages)))
    command = ["debootstrap", "--variant=minbase", f"--include={include}", f"--cache-dir={cache}"]
    for _ in range(3):  # as a package may fail to arrive
        done = subprocess.run(
            [*command, suite, folder], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    # What is installed by name alone, such as `python3` and `pip`, is found first in /usr/local.
    if debians:
        chroot(folder, "python3", "-m", "venv", "/usr/local")
    else:
        install_python(folder)
    (folder / "etc/apt/sources.list").unlink()  # or both would name the same packages
    for name in OURS:
        source, target = Path("/etc", name), folder / "etc" / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy(source, target)
    shutil.copy(BUNDLE, folder / BUNDLE.lstrip("/"))
    return folder


def install_python(folder: Path) -> None:
    """Copy the Python that runs the tests into a tree's /usr/local."""
    prefix, local = Path(sys.base_prefix), folder / "usr/local"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    copy(prefix / "lib", local / "lib", "site-packages/*", "test", "config-*", "__pycache__")
    shutil.copy(prefix / "bin" / version, local / "bin")
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(version)
    chroot(folder, "ldconfig")
    chroot(folder, "python3", "-m", "ensurepip", "--default-pip")


def chroot(folder: Path, *command: str) -> None:
    """Run a command in a tree."""
    done = subprocess.run(["chroot", folder, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
