"""The targets of a baked project's Makefile."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest
from conftest import (
    Bake,
    Project,
    answers_at,
    clean_environment,
    cookiecutter,
    free_port,
    listens,
    started,
)
from documents import DEPLOY, sections

UV = [sys.executable, "-m", "uv"]


LOCKS = {
    "requirements.txt": ["--group", "deploy", "pyproject.toml"],
    "requirements-build.txt": ["--group", "build"],
    "requirements-dev.txt": ["--group", "dev"],
}
"""Lock files, with the input files of each."""


def locked(path: Path) -> dict[str, set[str]]:
    """Return the names of the distributions in a lock file, with their versions."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=\S)", path.read_text()):
        if not entry.startswith("#"):
            pinned = re.match(
                r"([a-z0-9-]+)==(\S+)[^\n]* \\\n    --hash=sha256:[0-9a-f]{64}", entry
            )
            assert pinned, entry
            found.setdefault(pinned[1], set()).add(pinned[2])
    return found


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "none"])
def test_locks_have_exactly_what_is_needed_with_hashes(database: str, bake: Bake) -> None:
    project = bake(database=database)
    command = [*UV, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--no-annotate", "--no-header"]
    every: dict[str, set[str]] = {}
    for name, sources in LOCKS.items():
        done = subprocess.run(
            [*command, "--constraint", name, *sources],
            cwd=project.path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = locked(project.path / name)
        assert [*found] == [
            *dict.fromkeys(re.findall(r"^([a-z0-9-]+)==", done.stdout, re.MULTILINE))
        ]
        # They are installed together, so they must agree.
        assert all(every.setdefault(each, found[each]) == found[each] for each in found)


def distributions(project: Project) -> dict[str, str]:
    """Return the distributions in a project's virtual environment, with their versions."""
    command = [*UV, "pip", "list", "--format=json", "--python", str(project.bin / "python")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {each["name"]: each["version"] for each in json.loads(done.stdout)}


def test_make_install_installs_nothing_that_is_not_locked(installed: Project) -> None:
    every = {name: found for lock in LOCKS for name, found in locked(installed.path / lock).items()}
    found = distributions(installed)
    assert found.pop("my-service") == "0.1.0"
    assert {name for name in found if found[name] not in every.get(name, set())} == set()


def test_make_production_installs_exactly_what_is_locked_for_production(
    bake: Bake, tmp_path: Path
) -> None:
    """Targets for production install nothing else, and a wrong hash stops them."""
    project = bake()
    for lock, name in (("requirements-build.txt", "hatchling"), ("requirements.txt", "aiohttp")):
        path = project.path / lock
        right = path.read_text()
        wrong = re.sub(
            r"^(    --hash=sha256:)[0-9a-f]{64}", rf"\g<1>{'0' * 64}", right, flags=re.MULTILINE
        )
        path.write_text(right.replace(part(right, name), part(wrong, name)))
        with pytest.raises(AssertionError, match=r"(?i)hash"):
            project.make("production")
        path.write_text(right)
    project.make("production", "static")
    project.make("secret")
    env_file = project.path / ".env"
    assert env_file.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"ENVIRONMENT=production\nSECRET_KEYS=[\w-]{43}\n", env_file.read_text())
    shutil.copy(env_file, tmp_path / "env")
    found = distributions(project)
    assert found.pop("my-service") == "0.1.0"
    lock_names = locked(project.path / "requirements.txt")
    assert found.keys() == lock_names.keys()
    assert all(version in lock_names[name] for name, version in found.items())
    programs = {path.name for path in project.bin.iterdir()}
    assert {"gunicorn", "supervisord", "alembic"} <= programs
    assert not programs & {"pip", "uv", "hatchling", "pytest", "ruff", "adev"}
    assert not (project.path / ".venv/build").exists()
    assert list(project.path.glob("src/my_service/static/*.br"))
    # Install again in the same place: distributions that are no longer needed are removed.
    command = [*UV, "pip", "install", "--quiet", "--python", str(project.bin / "python"), "six"]
    subprocess.run(command, check=True)
    shutil.copy(project.path / ".env.example", env_file)
    with pytest.raises(AssertionError, match=r"ENVIRONMENT is development in \.env"):
        project.make("production")
    assert distributions(project) == found | {"my-service": "0.1.0"}
    shutil.copy(tmp_path / "env", env_file)
    start_as_documented(project, tmp_path)


def start_as_documented(project: Project, folder: Path) -> None:
    """Start servers with the commands of deploy/README.md, after ``make production static``."""
    documented = sections(project, DEPLOY)
    first, migrate, *alone = documented["One process"]
    assert [first, migrate] == documented["gunicorn"][:2]
    assert first == "make production static"
    subprocess.run(migrate, shell=True, cwd=project.path, env=clean_environment(), check=True)
    by_serve, reload = documented["gunicorn"][2:]
    for command in (*alone, by_serve):
        base = f"http://127.0.0.1:{(port := free_port())}"
        ours = command.replace("HOST=0.0.0.0 PORT=8080", f"HOST=127.0.0.1 PORT={port}")
        socket = folder / "app.sock"
        ours = ours.replace("/run/app.sock", str(socket))
        ready = partial(listens, socket) if str(socket) in ours else answers_at(f"{base}/livez")
        variables = {"PORT": str(port)}
        with started(
            ["sh", "-c", ours], folder / "log", ready, project.path, **variables
        ) as server:
            if command == by_serve:
                subprocess.run(reload, shell=True, cwd=project.path, check=True)
            server.stop(signal.SIGTERM)


def part(lock: str, name: str) -> str:
    """Return the entry of a distribution in a lock file."""
    found = re.search(rf"^{name}==.*(\n    --hash=.*)+", lock, re.MULTILINE)
    assert found
    return found[0]


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
    """Install the default project without uv on the path."""
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
    for target in "install production dev run serve test lint format check static clean".split():  # noqa: SIM905
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
