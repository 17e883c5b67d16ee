"""Changes that a release makes to an installed project, and a copy of a project to change."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import Project, client

COMPILED = "markupsafe"
"""A dependency with a compiled extension module."""
TEAPOT = "    server_tokens off;\n    location = /tea { return 418; }"
"""Replacement for the ``server_tokens`` line of nginx's site file."""


class Installed:
    """An installed project whose files are changed as a release changes them.

    The JSON of /about names the current release.
    """

    def __init__(self, path: Path, package: Path) -> None:
        """Set the folders of the project and of its package."""
        self.path = path
        self.package = package

    def announce(self, release: str) -> None:
        """Make /about name this release."""
        about = self.package / "about.py"
        lines = about.read_text().splitlines()
        kept = [line for line in lines if not line.startswith("DESCRIPTION")]
        about.write_text("\n".join([*kept, f'DESCRIPTION: Final = "{release}"', ""]))

    @contextmanager
    def broken(self, name: str, old: str, new: str) -> Iterator[None]:
        """Replace a text in a file for the duration of the block; append if ``old`` is empty."""
        path = self.package / name[8:] if name.startswith("PACKAGE/") else self.path / name
        before = path.read_text()
        if old:
            edit(path, old, new)
        else:
            path.write_text(before + new)
        try:
            yield
        finally:
            path.write_text(before)


class Copy(Installed):
    """A copy of a project. The JSON of /about also gives the version of its dependency ``tiny``."""

    def __init__(self, project: Project, folder: Path) -> None:
        """Copy the project, and create a virtual environment with the same packages."""
        path = folder / project.path.name
        super().__init__(path, path / "src" / project.package)
        left = (".venv", ".env", "data", "uploads", "run", ".*_cache", "__pycache__")
        shutil.copytree(project.path, path, ignore=shutil.ignore_patterns(*left))
        self.project = Project(path, project.package)
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
        """Install a version of ``tiny`` and reinstall COMPILED, replacing the current files."""
        for old in (*self.library.glob("tiny-*"), *self.library.glob(COMPILED)):
            shutil.rmtree(old)
        shutil.copytree(self.other / COMPILED, self.library / COMPILED)
        (self.library / "tiny.py").write_text(f"VERSION = {version!r}\n")
        information = self.library / f"tiny-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
        )


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text in a file."""
    text = path.read_text()
    assert old in text, f"{path}: {old}"
    path.write_text(text.replace(old, new, 1))


def add_setting(copy: Installed) -> None:
    edit(copy.package / "settings.py", "    @property\n", "    motto: str\n\n    @property\n")
    with (copy.path / ".env").open("a") as settings:
        settings.write("MOTTO=tea for all\n")
    pages = copy.package / "site/pages.py"
    edit(pages, "about_json(_request", "about_json(request")
    edit(pages, '"name": ', '"motto": request.config_dict[SETTINGS].motto, "name": ')
    edit(pages, "from ..web.headers", "from ..web.context import SETTINGS\nfrom ..web.headers")


def rename_module(copy: Installed) -> None:
    (copy.package / "normalization.py").rename(copy.package / "cleaning.py")
    for path in copy.package.rglob("*.py"):
        path.write_text(path.read_text().replace("normalization import", "cleaning import"))


def change_log(copy: Installed) -> None:
    edit(copy.package / "logs.py", 'event["timestamp"]', 'event["moment"]')


def change_configuration(copy: Installed) -> None:
    edit(copy.package / "deployment.py", '"json": ', '"greeting": "hello", "json": ')
    conf = copy.path / "deploy/gunicorn.conf.py"
    edit(conf, "\nbind = ", "\nraw_env = [f\"GREETING={values['greeting']}\"]\nbind = ")
    pages = copy.package / "site/pages.py"
    edit(pages, '"name": ', '"greeting": os.environ.get("GREETING"), "name": ')
    edit(pages, "\nfrom ", "\nimport os\nfrom ")


def update_dependency(copy: Copy) -> None:
    copy.install("2.0")


def told(base: str) -> dict[str, str]:
    """Return the JSON of /about."""
    with client() as http:
        answer = http.get(f"{base}/about", headers={"Accept": "application/json"})
        assert answer.status_code == 200
        return dict(answer.json())
