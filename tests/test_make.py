"""The targets of a baked project's Makefile."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import Bake, Project, cookiecutter

UV = [sys.executable, "-m", "uv"]


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "none"])
def test_lock_has_exactly_what_is_needed(database: str, bake: Bake) -> None:
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


def test_make_lint_finds_mistakes_and_make_format_mends_them(installed: Project) -> None:
    file = installed.path / "src" / installed.package / "mistake.py"
    try:
        for mistake in MISTAKES.values():
            file.write_text(f'"""A module."""\n\n{mistake}')
            with pytest.raises(AssertionError):
                installed.make("lint")
        file.write_text(f'"""A module."""\n\n{MISTAKES["lint"]}\n{MISTAKES["format"]}')
        installed.make("format")
        assert file.read_text() == '"""A module."""\n\nX = [1]\n'
        installed.make("lint")
    finally:
        file.unlink()


def test_coverage_and_warnings_are_strict(bake: Bake) -> None:
    tool = tomllib.loads((bake().path / "pyproject.toml").read_text())["tool"]
    assert tool["mypy"]["strict"] is True
    assert tool["coverage"]["run"]["branch"] is True
    assert tool["coverage"]["report"]["fail_under"] >= 95
    first, *others = tool["pytest"]["ini_options"]["filterwarnings"]
    assert first == "error"
    assert [rule.rsplit(":", 1)[-1] for rule in others] == ["aiohttp_session"]


def test_one_test_alone_passes_without_coverage(installed: Project) -> None:
    one = [str(installed.bin / "pytest"), "tests/site/test_pages.py", "-k", "about"]
    done = subprocess.run(one, cwd=installed.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "coverage" not in done.stdout


@pytest.fixture(scope="module")
def without_uv(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The default project, installed where uv is not on the path."""
    folder = tmp_path_factory.mktemp("without-uv") / "out"
    folder.mkdir()
    assert cookiecutter(folder).returncode == 0
    project = Project(folder / "my-service", "my_service")
    folders = os.environ["PATH"].split(os.pathsep)
    without = [folder for folder in folders if not (Path(folder) / "uv").exists()]
    python = str(Path(sys._base_executable).absolute())  # type: ignore[attr-defined]
    project.make("install", PYTHON=python, PATH=os.pathsep.join(without))
    return project


@pytest.mark.xdist_group("make")
def test_make_install_installs_uv_where_it_is_missing(without_uv: Project) -> None:
    assert (without_uv.bin / "uv").exists()
    assert (without_uv.bin / "adev").exists()


def test_make_lists_its_targets(installed: Project) -> None:
    output = installed.make().stdout
    for target in "install dev run serve test lint format check static clean".split():  # noqa: SIM905
        assert f"make {target} " in output


def test_make_names_the_python_that_is_needed(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    old = tmp_path / "python-of-old"
    old.write_text("#!/bin/sh\necho 'Python 3.11 or newer is needed' >&2; exit 1\n")
    old.chmod(0o755)
    with pytest.raises(AssertionError, match=r"Python 3\.11 or newer is needed"):
        project.make("install", f"PYTHON={old}")


@pytest.mark.xdist_group("make")
def test_make_static_compresses_files_for_the_wheel_and_make_clean_removes_them(
    without_uv: Project, tmp_path: Path
) -> None:
    project = without_uv
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


def test_make_secret_prints_a_key_that_production_accepts(
    installed: Project, tmp_path: Path
) -> None:
    key = installed.make("secret").stdout.strip()
    program = f"from {installed.package}.settings import load_settings; load_settings()"
    subprocess.run(
        [installed.bin / "python", "-c", program],
        cwd=tmp_path,
        env={"SECRET_KEYS": key, "ENVIRONMENT": "production"},
        check=True,
    )
