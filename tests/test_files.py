"""Fast checks of the baked files, for every combination of the choices."""

import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT, Bake, Project, answers, cookiecutter
from needs import needs

# the tests share the baked projects
pytestmark = [pytest.mark.quick, pytest.mark.xdist_group("files")]

TEMPLATE = ROOT / "<<cookiecutter.project_slug>>"
RUFF = [sys.executable, "-m", "ruff"]
CHOICES = {key: value for key, value in answers().items() if isinstance(value, list)}
COMBINATIONS = [
    dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())
]


def files(project: Project) -> dict[str, bytes]:
    return {
        str(path.relative_to(project.path)): path.read_bytes()
        for path in sorted(project.path.rglob("*"))
        if path.is_file()
    }


def texts(project: Project) -> dict[str, str]:
    return {name: data.decode() for name, data in files(project).items() if b"\0" not in data}


@pytest.fixture(scope="session")
def combinations(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """Return a function that bakes a combination on its first use."""

    @cache
    def combination(**given: str) -> Project:
        folder = tmp_path_factory.mktemp("-".join(given.values())) / "out"
        folder.mkdir()
        done = cookiecutter(folder, *(f"{key}={value}" for key, value in given.items()))
        assert done.returncode == 0, done.stderr
        return Project(folder / "my-service", "my_service")

    return combination


@pytest.fixture(params=COMBINATIONS, ids=lambda given: "-".join(given.values()))
def combination(request: pytest.FixtureRequest, combinations: Callable[..., Project]) -> Project:
    return combinations(**request.param)


def test_no_template_delimiter_is_left(combination: Project) -> None:
    left = re.compile(r"<<|>>|<%|%>|<#|#>|^\s*# %|cookiecutter", re.MULTILINE)
    found = {name: left.findall(text) for name, text in texts(combination).items()}
    assert {name: hits for name, hits in found.items() if hits} == {}
    assert not [name for name in files(combination) if left.search(name)]


def test_files_end_with_one_newline_and_have_no_double_blank_lines(combination: Project) -> None:
    for name, text in texts(combination).items():
        if not text:
            assert name.endswith(("__init__.py", "py.typed")), name
            continue
        assert text.endswith("\n"), name
        assert not text.endswith("\n\n"), name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), name
        if not name.endswith((".py", ".mako")):  # the formatter puts them there
            assert "\n\n\n" not in text, name


def test_baked_project_passes_ruff(combination: Project) -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [*RUFF, *command, "--no-cache", "."],
            cwd=combination.path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", ["a", "z" * 40])
def test_project_with_short_or_long_package_name_passes_ruff(package: str, bake: Bake) -> None:
    test_baked_project_passes_ruff(bake(package_name=package))


def test_unbaked_template_passes_ruff() -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [*RUFF, *command, "--no-cache", "."],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("database", CHOICES["database"])
def test_two_bakes_with_the_same_answers_are_identical(
    database: str, combinations: Callable[..., Project], bake: Bake
) -> None:
    """Bake once with arguments, and once with typed answers."""
    given = {"database": database, "license": "MIT"}
    assert files(combinations(**given)) == files(bake(**given))


@pytest.mark.parametrize(
    ("license", "title", "expression"),
    [
        ("MIT", "MIT License", "MIT"),
        ("BSD-3-Clause", "BSD 3-Clause License", "BSD-3-Clause"),
        ("Apache-2.0", "Apache License", "Apache-2.0"),
        ("proprietary", "All rights reserved", "LicenseRef-Proprietary"),
    ],
)
def test_license_file_and_metadata_match_the_answer(
    license: str, title: str, expression: str, bake: Bake
) -> None:
    baked = texts(bake(license=license, author_name="Grace Hopper"))
    assert title in baked["LICENSE"]
    assert "Grace Hopper" in baked["LICENSE"]
    assert f'license = "{expression}"' in baked["pyproject.toml"]
    assert ("Do Not Upload" in baked["pyproject.toml"]) == (license == "proprietary")
    titles = ["MIT License", "BSD 3-Clause", "Apache License", "All rights reserved"]
    assert sum(other in baked["LICENSE"] for other in titles) == 1


def test_every_answer_appears_in_the_project(bake: Bake) -> None:
    given = {
        "project_name": "Quokka",
        "project_slug": "quoll",
        "package_name": "numbat",
        "description": "Bilby.",
        "author_name": "Dingo",
        "author_email": "echidna@example.com",
        "domain_name": "wombat.example",
    }
    assert set(given) | set(CHOICES) == set(answers())
    everything = "\n".join(texts(bake(**given)).values())
    for value in given.values():
        assert value in everything


def test_baked_files_are_those_tracked_by_git(combinations: Callable[..., Project]) -> None:
    """Caches and notes in the template's folder must not end up in a project."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", TEMPLATE.name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")[:-1]
    names = {
        str(Path(name).relative_to(TEMPLATE.name)).replace(
            "<<cookiecutter.package_name>>", "my_service"
        )
        for name in listed
    }
    baked = {
        answer: set(files(combinations(database=answer, license="MIT")))
        for answer in CHOICES["database"]
    }
    assert set.union(*baked.values()) == names
    own = {answer: names - baked[answer] for answer in baked}  # files that the project lacks
    assert {name for name in own["sqlite"] | own["postgresql"] if "postgresql" not in name} == {
        name for name in own["postgresql"] if "sqlite" in name
    }
    assert not [name for name in baked["none"] if re.search("database|news|migrations", name)]


def test_other_databases_are_not_mentioned(combinations: Callable[..., Project]) -> None:
    others = {
        "sqlite": r"postgres|asyncpg",
        "postgresql": r"sqlite",
        "none": r"database|sql|alembic|migrat|asyncpg|\bnews\b|markdown|\batom\b|\bseed\b|nh3",
    }
    for answer, pattern in others.items():
        for name, text in texts(combinations(database=answer, license="MIT")).items():
            if name.endswith((".py", "deploy/README.md")) and answer != "none":
                continue  # these files compare the databases
            found = re.search(pattern, text, re.IGNORECASE)
            assert not found, (answer, name, found)


@pytest.mark.parametrize("database", CHOICES["database"])
def test_license_answer_changes_only_three_files(
    database: str, combinations: Callable[..., Project]
) -> None:
    """A project that passes its check with one licence therefore passes with any."""
    kinds = CHOICES["license"]
    several = [files(combinations(database=database, license=each)) for each in kinds]
    names = {name for name in several[0] if len({each[name] for each in several}) > 1}
    assert names == {"LICENSE", "pyproject.toml", "deploy/docker/Dockerfile"}


IGNORED = (".env", ".venv/x", "src/x.pyc/__pycache__/y", "src/a/static/site.css.br")


@pytest.mark.parametrize(
    ("database", "copies"),
    [
        ("sqlite", ("data/backup.db", "backup.db", "other.db-wal", "other.db-shm")),
        ("postgresql", ("backup.dump", "deploy/backup.dump")),
    ],
)
def test_git_ignores_secrets_and_generated_files_and_copies_of_the_database(
    database: str, copies: tuple[str, ...], bake: Bake
) -> None:
    project = bake(database=database)
    subprocess.run(["git", "init", "--quiet", project.path], check=True)
    for name in (*IGNORED, *copies):
        command = ["git", "-C", str(project.path), "check-ignore", "--quiet", name]
        assert subprocess.run(command, check=False).returncode == 0, name


@needs("/usr/share/common-licenses/Apache-2.0")
def test_apache_license_is_the_text_debian_ships(combinations: Callable[..., Project]) -> None:
    debian = Path("/usr/share/common-licenses/Apache-2.0").read_text()
    words = debian.partition("END OF TERMS AND CONDITIONS")[0].split()
    baked = texts(combinations(database="none", license="Apache-2.0"))
    assert baked["LICENSE"].split()[: len(words)] == words


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [
        line
        for line in (ROOT / ".ci/run").read_text().splitlines()
        if not line.startswith(("#", "set ", "cd "))
    ]
    assert commands == ["make test"]
    assert "    make test " in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(("target", "status"), [("test", 0), ("bench", 1), ("test", 1)])
def test_missing_packages_are_named_where_they_cannot_be_installed(
    target: str, status: int, tmp_path: Path
) -> None:
    """Run it with a path that has neither the programs, nor apt-get, nor sudo."""
    for program in ("grep", "sh"):
        found = shutil.which(program)
        assert found
        (tmp_path / program).symlink_to(found)
    (tmp_path / "python3").symlink_to(sys.executable)
    ldconfig = tmp_path / "ldconfig"  # as on a machine without libatomic
    ldconfig.write_text("#!/bin/sh\n")
    ldconfig.chmod(0o755)
    script = (ROOT / "tests/system-packages.sh").read_text()
    # otherwise the script finds it
    script = script.replace("[ -e /usr/lib/nginx/modules/", "[ -e /")
    script = script.replace("/usr/lib/postgresql/*/bin", "/no/such/folder")
    assert script.count(':/usr/sbin:/sbin"') == 1
    done = subprocess.run(
        ["/bin/sh", "-s", target],
        input=script.replace(':/usr/sbin:/sbin"', '"'),
        env={"PATH": str(tmp_path)} | ({"CI": "true"} if (target, status) == ("test", 1) else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    first, *others = done.stderr.splitlines()
    names = "postgresql wrk"
    if target == "test":
        names = (
            "chromium curl debootstrap nginx openssl podman postgresql runc sqlite3"
            " systemd systemd-container libnginx-mod-http-brotli-static libatomic1"
        )
    assert first == (
        f"Missing: {names}. On Debian, run: sudo apt-get update && "
        f"sudo apt-get install --yes --no-install-recommends {names}"
    )
    assert others == (["The tests that need them are skipped."] if status == 0 else [])


def test_template_has_no_raw_blocks() -> None:
    for path in TEMPLATE.rglob("*"):
        if path.is_file() and b"\0" not in path.read_bytes():
            assert not re.search(r"\{%-?\s*(end)?raw", path.read_text()), path


def test_readme_lists_every_question_and_every_baked_folder(
    combinations: Callable[..., Project],
) -> None:
    readme = (ROOT / "README.md").read_text()
    table = re.findall(r"^\| `(\w+)` \| (.*?) \|", readme, re.MULTILINE)
    assert [question for question, _ in table] == list(answers())
    for (_, told), default in zip(table, answers().values(), strict=True):
        if isinstance(default, list):
            assert told == default[0]
        elif "<<" not in default:
            assert told == default
    tree = readme.partition("    my-service/\n")[2].partition("\n\n")[0]
    project = combinations(database="sqlite", license="MIT")
    for name in re.findall(r"[\w.]+\.(?:py|md|toml)|\w+/", tree):
        assert list(project.path.rglob(name.rstrip("/"))), name
    folders = {path.name for path in (project.path / "src/my_service").iterdir()}
    for name in folders - {"__init__.py", "py.typed"}:
        assert name in tree, name


def test_readme_lists_every_row_of_the_design_with_its_tests() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| ([DW]\d+) \| .+? \| (.+?) \| (.*?) ?\|$", readme, re.MULTILINE)
    assert [name for name, _, _ in rows] == [
        *(f"D{number}" for number in range(1, 11)),
        *(f"W{number}" for number in range(1, 27)),
    ]
    for name, state, shown in rows:
        assert (state == "not yet") == (shown == ""), name
        for test in re.findall(r"[\w/]*test_\w+\.py", shown):
            root = ROOT if test.startswith("tests/") else TEMPLATE / "tests"
            assert (root / test).exists(), test
