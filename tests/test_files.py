"""The fast tier: what is in the files that are baked, for every combination of the choices."""

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
    """Bakes a combination when it is first asked for."""

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


def test_no_delimiter_is_left(combination: Project) -> None:
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
        if not name.endswith((".py", ".mako")):  # where the formatter wants them
            assert "\n\n\n" not in text, name


def test_formatter_and_linter_are_content_with_the_bake(combination: Project) -> None:
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
def test_formatter_is_content_with_short_and_long_names(package: str, bake: Bake) -> None:
    test_formatter_and_linter_are_content_with_the_bake(bake(package_name=package))


def test_formatter_and_linter_are_content_with_the_template_as_it_stands() -> None:
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
def test_baking_twice_gives_the_same_bytes(
    database: str, combinations: Callable[..., Project], bake: Bake
) -> None:
    """Once by arguments, and once by typing."""
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
def test_the_licence_is_the_one_that_was_chosen(
    license: str, title: str, expression: str, bake: Bake
) -> None:
    baked = texts(bake(license=license, author_name="Grace Hopper"))
    assert title in baked["LICENSE"]
    assert "Grace Hopper" in baked["LICENSE"]
    assert f'license = "{expression}"' in baked["pyproject.toml"]
    assert ("Do Not Upload" in baked["pyproject.toml"]) == (license == "proprietary")
    titles = ["MIT License", "BSD 3-Clause", "Apache License", "All rights reserved"]
    assert sum(other in baked["LICENSE"] for other in titles) == 1


def test_every_question_is_used(bake: Bake) -> None:
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


def test_what_is_baked_is_what_git_knows_of_the_template(bake: Bake) -> None:
    """So that nobody's caches or notes get into a project."""
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
    baked = {answer: set(files(bake(database=answer))) for answer in CHOICES["database"]}
    assert set.union(*baked.values()) == names
    own = {answer: names - baked[answer] for answer in baked}  # what it has not
    assert {name for name in own["sqlite"] | own["postgresql"] if "postgresql" not in name} == {
        name for name in own["postgresql"] if "sqlite" in name
    }
    assert not [name for name in baked["none"] if re.search("database|news|migrations", name)]


def test_a_project_speaks_only_of_the_database_that_it_has(bake: Bake) -> None:
    others = {
        "sqlite": r"postgres|asyncpg",
        "postgresql": r"sqlite",
        "none": r"database|sql|alembic|migrat|asyncpg|\bnews\b|markdown|\batom\b|\bseed\b|nh3",
    }
    for answer, pattern in others.items():
        for name, text in texts(bake(database=answer)).items():
            if name.endswith((".py", "deploy/README.md")) and answer != "none":
                continue  # where they are compared
            found = re.search(pattern, text, re.IGNORECASE)
            assert not found, (answer, name, found)


@pytest.mark.parametrize("database", CHOICES["database"])
def test_the_licence_changes_only_what_names_it(
    database: str, combinations: Callable[..., Project]
) -> None:
    """So what passes its check with one licence does so with any."""
    kinds = CHOICES["license"]
    several = [files(combinations(database=database, license=each)) for each in kinds]
    names = {name for name in several[0] if len({each[name] for each in several}) > 1}
    assert names == {"LICENSE", "pyproject.toml", "deploy/docker/Dockerfile"}


def test_secrets_and_what_was_made_stay_out_of_git(bake: Bake) -> None:
    project = bake()
    subprocess.run(["git", "init", "--quiet", project.path], check=True)
    for name in (".env", ".venv/x", "src/x.pyc/__pycache__/y", "src/a/static/site.css.br"):
        command = ["git", "-C", project.path, "check-ignore", "--quiet", name]
        assert subprocess.run(command, check=False).returncode == 0, name


def test_apache_is_word_for_word_the_licence_that_debian_has(bake: Bake) -> None:
    debian = Path("/usr/share/common-licenses/Apache-2.0").read_text()
    words = debian.partition("END OF TERMS AND CONDITIONS")[0].split()
    assert texts(bake(license="Apache-2.0"))["LICENSE"].split()[: len(words)] == words


def test_ci_runs_the_readmes_command() -> None:
    commands = [
        line
        for line in (ROOT / ".ci/run").read_text().splitlines()
        if not line.startswith(("#", "set ", "cd "))
    ]
    assert commands == ["make test"]
    assert "    make test " in (ROOT / "README.md").read_text()


def test_missing_packages_are_named_to_who_may_not_install_them(tmp_path: Path) -> None:
    """With a path on which there are neither the programs nor sudo."""
    for program in ("id", "grep", "sh"):
        found = shutil.which(program)
        assert found
        (tmp_path / program).symlink_to(found)
    (tmp_path / "python3").symlink_to(sys.executable)
    for name in ("id", "ldconfig"):  # nobody, on a machine without libatomic
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\necho 65534\n")
        (tmp_path / name).chmod(0o755)
    script = (ROOT / "tests/system-packages.sh").read_text()
    script = script.replace("[ -e /usr/lib/nginx/modules/", "[ -e /")  # or it is found
    script = script.replace("/usr/lib/postgresql/*/bin", "/no/such/folder")
    assert script.count(':/usr/sbin:/sbin"') == 1
    done = subprocess.run(
        ["/bin/sh", "-s", "test"],
        input=script.replace(':/usr/sbin:/sbin"', '"'),
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    names = (
        "chromium curl debootstrap nginx openssl podman postgresql runc systemd systemd-container "
        "libnginx-mod-http-brotli-static libatomic1"
    )
    assert line.startswith(f"Missing: {names}. Please run: sudo apt-get update")
    assert line.endswith(f"apt-get install --yes --no-install-recommends {names}")


def test_the_house_is_in_order() -> None:
    for path in TEMPLATE.rglob("*"):
        if path.is_file() and b"\0" not in path.read_bytes():
            assert not re.search(r"\{%-?\s*(end)?raw", path.read_text()), path


def test_the_readme_tells_of_every_question_and_of_what_is_baked(bake: Bake) -> None:
    readme = (ROOT / "README.md").read_text()
    table = re.findall(r"^\| `(\w+)` \| (.*?) \|", readme, re.MULTILINE)
    assert [question for question, _ in table] == list(answers())
    for (_, told), default in zip(table, answers().values(), strict=True):
        if isinstance(default, list):
            assert told == default[0]
        elif "<<" not in default:
            assert told == default
    tree = readme.partition("    my-service/\n")[2].partition("\n\n")[0]
    project = bake()
    for name in re.findall(r"[\w.]+\.(?:py|md|toml)|\w+/", tree):
        assert list(project.path.rglob(name.rstrip("/"))), name
    folders = {path.name for path in (project.path / "src/my_service").iterdir()}
    for name in folders - {"__init__.py", "py.typed"}:
        assert name in tree, name


def test_the_rows_are_all_accounted_for() -> None:
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
