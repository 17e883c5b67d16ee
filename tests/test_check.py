"""The baked project's own gate, on every CPython from 3.11 that this machine has."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import VERSIONS, Bake, Project, cookiecutter

OLDEST = 11
UV = [sys.executable, "-m", "uv"]


def interpreters() -> dict[str, str]:
    """Return a program for every minor version from 3.11: those on the path, and pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python3.{minor}") for minor in range(OLDEST, 30)]
    candidates += [shutil.which("python3"), *map(str, sorted(pyenv.glob("3.*/bin/python")))]
    found: dict[str, str] = {}
    program = "import ensurepip, venv, sys; print('%d.%d' % sys.version_info[:2])"
    for python in filter(None, candidates):
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
        version = done.stdout.strip()
        if done.returncode == 0 and int(version.split(".")[1]) >= OLDEST:
            found.setdefault(version, str(Path(python).absolute()))
    return found


INTERPRETERS = interpreters()


SORTED = sorted(INTERPRETERS, key=lambda version: int(version.split(".")[1]))
CASES = [(version, "sqlite") for version in SORTED]
CASES[1:2] = [(SORTED[1 % len(SORTED)], "none")]
"""The default with every version but one, with which there is no database: each takes minutes.
test_answers.py checks a project with PostgreSQL, and test_files.py that licences change no code."""


@pytest.mark.parametrize(("version", "database"), CASES)
def test_projects_pass_their_check(version: str, database: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert cookiecutter(tmp_path / "out", f"database={database}").returncode == 0
    project = Project(tmp_path / "out/my-service", "my_service")
    output = project.make("check", PYTHON=INTERPRETERS[version]).stdout
    assert " passed" in output
    assert "python " + version in output
    assert "skipped" not in output.split("tests coverage")[-1].split("Required test")[-1]
    listed = [*UV, "pip", "freeze", "--exclude-editable", "--python", str(project.bin / "python")]
    got = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    VERSIONS.mkdir(parents=True, exist_ok=True)
    (VERSIONS / version).write_text(f"Python {version}: {' '.join(got)}\n")


def take_out(project: Project, feature: str, *paths: str) -> None:
    """Do what the README says of a feature, and run the check."""
    source = project.path / "src" / project.package
    for path in (source / feature, *(project.path / name for name in paths)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    app = source / "app.py"
    text = app.read_text()
    for line in (f"    {feature}.setup(app)\n", f"    {feature},\n"):
        assert text.count(line) == 1
        text = text.replace(line, "")
    app.write_text(text)
    project.make("check")


def test_the_admin_can_be_taken_out(bake: Bake) -> None:
    take_out(bake(), "admin", "tests/admin")


def test_the_news_can_be_taken_out(bake: Bake) -> None:
    project = bake()
    sentence = project.readme().partition("Then delete ")[2].partition("What")[0]
    _, *paths, app = re.findall("`(.+?)`", sentence)
    assert app == "app.py"
    project.make("migrate")
    undo = [project.bin / "alembic", "downgrade", "base"]
    subprocess.run(undo, cwd=project.path, check=True, capture_output=True)
    source = f"src/{project.package}"
    take_out(project, "news", *(f"{source}/{p}" if "static" in p else p for p in paths))


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "none"])
def test_the_lock_has_what_is_needed_and_nothing_else(database: str, bake: Bake) -> None:
    project = bake(database=database)
    lock = (project.path / "requirements.txt").read_text()
    listed = re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE)
    command = [*UV, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--constraint", "requirements.txt", "--no-annotate", "--no-header"]
    done = subprocess.run(
        [*command, "--group", "deploy", "pyproject.toml"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert listed == re.findall(r"^([a-z0-9-]+)==", done.stdout, re.MULTILINE)


MISTAKES = {
    "lint": "import os\n",
    "format": "X = [ 1 ]\n",
    "types": 'Y: int = "text"\n',
}


def test_make_lint_and_format_do_their_work(bake: Bake) -> None:
    project = bake()
    project.make("lint")
    file = project.path / "src" / project.package / "mistake.py"
    for mistake in MISTAKES.values():
        file.write_text(f'"""A module."""\n\n{mistake}')
        with pytest.raises(AssertionError):
            project.make("lint")
    file.write_text(f'"""A module."""\n\n{MISTAKES["lint"]}\n{MISTAKES["format"]}')
    project.make("format")
    assert file.read_text() == '"""A module."""\n\nX = [1]\n'
    project.make("lint")


def test_make_test_insists_on_coverage_and_on_no_warning(bake: Bake) -> None:
    project = bake()
    tool = tomllib.loads((project.path / "pyproject.toml").read_text())["tool"]
    assert tool["mypy"]["strict"] is True
    assert tool["coverage"]["run"]["branch"] is True
    assert tool["coverage"]["report"]["fail_under"] >= 95
    assert "--cov" in tool["pytest"]["ini_options"]["addopts"]
    first, *others = tool["pytest"]["ini_options"]["filterwarnings"]
    assert first == "error"
    assert [rule.rsplit(":", 1)[-1] for rule in others] == ["aiohttp_session"]


def test_uv_is_installed_where_there_is_none(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    folders = os.environ["PATH"].split(os.pathsep)
    without = [folder for folder in folders if not (Path(folder) / "uv").exists()]
    python = str(Path(sys._base_executable).absolute())  # type: ignore[attr-defined]
    project.make("install", PYTHON=python, PATH=os.pathsep.join(without))
    assert (project.bin / "uv").exists()
    assert (project.bin / "adev").exists()


def test_make_lists_its_targets(installed: Project) -> None:
    output = installed.make().stdout
    for target in "install dev run serve test lint format check static clean".split():  # noqa: SIM905
        assert f"make {target} " in output


def test_make_says_what_is_missing(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    old = tmp_path / "python-of-old"
    old.write_text("#!/bin/sh\necho 'Python 3.11 or newer is needed' >&2; exit 1\n")
    old.chmod(0o755)
    with pytest.raises(AssertionError, match=r"Python 3\.11 or newer is needed"):
        project.make("install", f"PYTHON={old}")


def test_make_static_makes_what_the_wheel_and_clean_know_of(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    output = project.make("static").stdout
    static = project.path / "src" / project.package / "static"
    siblings = sorted(path.name for path in static.glob("*.br"))
    assert siblings == [
        f"{name}.br"
        for name in ("favicon.svg", "live.js", "news.css", "news.js", "site.css", "theme.js")
    ]
    assert str(static.relative_to(project.path) / "site.css.br") in output
    subprocess.run(["git", "init", "--quiet", project.path], check=True)
    build = [*UV, "build", "--quiet", "--wheel", "--python", str(project.bin / "python")]
    subprocess.run([*build, "--out-dir", str(tmp_path / "dist")], cwd=project.path, check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = subprocess.run(
        ["python3", "-m", "zipfile", "--list", wheel], capture_output=True, text=True, check=True
    ).stdout
    for name in ("static/site.css.br", "static/site.css.gz", "templates/base.html", "py.typed"):
        assert name in names
    assert "admin/templates/overview.html" in names
    project.make("clean")
    assert not list(static.glob("*.br"))
    assert not (project.path / ".venv").exists()
    assert (project.path / ".env").exists()


def test_make_secret_prints_a_key_that_production_takes(installed: Project, tmp_path: Path) -> None:
    key = installed.make("secret").stdout.strip()
    program = f"from {installed.package}.settings import load_settings; load_settings()"
    subprocess.run(
        [installed.bin / "python", "-c", program],
        cwd=tmp_path,
        env={"SECRET_KEYS": key, "ENVIRONMENT": "production"},
        check=True,
    )
