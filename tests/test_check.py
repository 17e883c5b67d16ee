"""``make check`` of a baked project, for each Python, each database and removed features."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from email.utils import parseaddr
from html import unescape
from pathlib import Path

import pytest
from conftest import (
    SECRET,
    VERSIONS,
    Bake,
    Project,
    answers_at,
    client,
    copied,
    free_port,
    postgresql,
    started,
)
from growth import grow
from needs import needs
from test_answers import hostile_answers

OLDEST = 11
UV = [sys.executable, "-m", "uv"]


def interpreters() -> dict[str, str]:
    """Return a program for every minor version from 3.11, found on the path and in pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python3.{minor}") for minor in range(OLDEST, 30)]
    others = sorted(pyenv.glob("3.[1-9][0-9].*/bin/python"))
    candidates += [shutil.which("python3"), *map(str, others)]
    found: dict[str, str] = {}
    program = "import ensurepip, venv, sys; print('%d.%d' % sys.version_info[:2])"
    for python in filter(None, candidates):
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
        version = done.stdout.strip()
        if done.returncode == 0 and int(version.split(".")[1]) >= OLDEST:
            found.setdefault(version, str(Path(python).absolute()))
    return found


INTERPRETERS = interpreters()
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
FIRST, *OTHERS = sorted(INTERPRETERS, key=lambda version: int(version.split(".")[1]))
DATABASES = ("none", "sqlite", "postgresql")
CASES = [
    (version, DATABASES[number % len(DATABASES)])
    for number, version in enumerate((OTHERS or [FIRST]) * len(DATABASES))
][: max(len(DATABASES), len(OTHERS))]
"""Every other Python, and every database. The default project is checked with the first Python."""


def check(project: Project, version: str, *targets: str) -> None:
    """Run targets in a project, and note the versions of its dependencies."""
    variables = {"PYTHON": INTERPRETERS[version]}
    if "coverage" not in targets:  # other tests run at the same time, so one worker is enough
        variables["PYTEST_XDIST_AUTO_NUM_WORKERS"] = "1"
    output = project.make(*targets, **variables).stdout
    assert re.search(r"=+ \d+ passed in ", output), output[-1000:]
    assert f"Python {version}." in output
    listed = [*UV, "pip", "freeze", "--exclude-editable", "--python", str(project.bin / "python")]
    got = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    VERSIONS.mkdir(parents=True, exist_ok=True)
    (VERSIONS / version).write_text(f"Python {version}: {' '.join(got)}\n")


def remove(project: Project, feature: str, *paths: str) -> None:
    """Remove a feature as described in the project's README."""
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


def remove_news(project: Project) -> None:
    """Remove the news feature and its table as described in the project's README."""
    how = project.readme().partition("To take the news out, delete ")[2]
    _, *paths, app = re.findall("`(.+?)`", how.partition("Then")[0])
    assert app == "app.py"
    source = f"src/{project.package}"
    remove(project, "news", *(f"{source}/{p}" if "static" in p else p for p in paths))
    command = re.search("^    make (.+)$", how, re.MULTILINE)
    assert command
    project.make(*shlex.split(command[1]))
    project.make("migrate")


def test_default_project_passes_its_check_and_is_covered(bake: Bake) -> None:
    check(bake(), FIRST, "lint", "coverage")


def growing(original: Project, folder: Path) -> Project:
    """Return a copy of the default project to which one of each kind of thing has been added."""
    project = copied(original, folder)
    (project.path / ".env").unlink()  # made again from .env.example, which grows too
    grow(project)
    return project


def test_project_that_has_grown_passes_its_check_without_admin(
    original: Project, tmp_path: Path
) -> None:
    project = growing(original, tmp_path)
    remove(project, "admin", "tests/admin")
    check(project, CURRENT, "check")


def test_project_that_has_grown_passes_its_check_without_news(
    original: Project, tmp_path: Path
) -> None:
    """The owner's data in the database also survives."""
    project = growing(original, tmp_path)
    # Run here too: the check below runs without the admin or the news feature.
    both = [str(project.bin / "pytest"), "tests/admin/test_news.py"]
    done = subprocess.run(both, cwd=project.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    with closing(sqlite3.connect(project.path / "data/app.db")) as connection:
        connection.execute("INSERT INTO teas VALUES (1, 'Assam')")
        connection.commit()
        remove_news(project)
        assert connection.execute("SELECT * FROM teas").fetchall() == [(1, "Assam")]
        with pytest.raises(sqlite3.OperationalError, match="no such table: news"):
            connection.execute("SELECT * FROM news")
    check(project, CURRENT, "check")


def assert_answers_are_shown(project: Project, given: dict[str, str], log: Path) -> None:
    """Read the answers back from the installed distribution, the data and the page."""
    metadata = subprocess.run(
        [
            *(project.bin / "python", "-c"),
            "import importlib.metadata as m, json; d = m.metadata('hostile');"
            "print(json.dumps([d['Summary'], d['Author-email']]))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    summary, author = json.loads(metadata.stdout)
    assert summary == given["description"]
    assert parseaddr(author)[1] == given["author_email"]

    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(project.bin / "python"), "-m", project.package, "--port", str(port)]
    with (
        postgresql.postgresql() as server,
        started(
            command,
            log,
            answers_at(f"{url}/livez"),
            project.path,
            ENVIRONMENT="production",
            SECRET_KEYS=SECRET,
            DATABASE_URL=server.url(),
        ),
        client() as http,
    ):
        data = http.get(f"{url}/about", headers={"Accept": "application/json"}).json()
        page = http.get(f"{url}/about", headers={"Accept": "text/html"}).text
    assert data == {
        "name": given["project_name"],
        "description": given["description"],
        "author": given["author_name"],
    }
    shown = [unescape(text) for text in re.findall(r'<dd dir="auto">(.*)</dd>', page)]
    assert shown == [given["project_name"], given["author_name"]]
    assert "<script>alert" not in page


@pytest.mark.parametrize(
    ("version", "database"),
    [
        pytest.param(*case, marks=needs(*["initdb"] if case[1] == "postgresql" else []))
        for case in CASES
    ],
)
def test_project_without_a_default_answer_passes_its_check(
    version: str, database: str, bake: Bake, tmp_path: Path
) -> None:
    given = hostile_answers(database=database)
    project = bake(**given)
    check(project, version, "check")
    if database == "postgresql":
        assert_answers_are_shown(project, given, tmp_path / "log")
