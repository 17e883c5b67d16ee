"""The template's answers: invalid ones are refused, valid ones arrive unchanged in the project."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from html import unescape
from pathlib import Path

import pytest
from conftest import ROOT, Bake, Project, answers, cookiecutter
from cookiecutter import main
from cookiecutter.exceptions import InvalidModeException

pytestmark = pytest.mark.quick

BAD = [
    ("project_name", "", "project name"),
    ("project_name", " ", "project name"),
    ("project_name", "two\nlines", "U+000A"),
    ("project_name", "bell\a", "U+0007"),
    ("project_name", "x" * 201, "200"),
    ("project_slug", "", "project slug"),
    ("project_slug", ".", "project slug"),
    ("project_slug", "nginx", "a user or service"),
    ("project_slug", "www-data", "a user or service"),
    ("project_slug", "my service", "project slug"),
    ("project_slug", "-service", "project slug"),
    ("project_slug", "service_", "project slug"),
    ("project_slug", "sérvice", "project slug"),
    ("project_slug", "a/b", "project slug"),
    ("project_slug", "../escape", "project slug"),
    ("project_slug", "/tmp/escape", "project slug"),
    ("project_slug", "x'y", "project slug"),
    ("project_slug", "x" * 300, "project slug"),
    ("project_slug", "aiohttp", "project slug"),
    ("project_slug", "Pydantic.Settings", "project slug"),
    ("package_name", "", "package name"),
    ("package_name", "my-service", "identifier"),
    ("package_name", "1service", "identifier"),
    ("package_name", "sérvice", "identifier"),
    ("package_name", "a.b", "identifier"),
    ("package_name", "x" * 41, "identifier"),
    ("package_name", "class", "keyword"),
    ("package_name", "json", "standard library"),
    ("package_name", "test", "standard library"),
    ("package_name", "distutils", "standard library"),
    ("package_name", "aiohttp", "depends on"),
    ("package_name", "yarl", "depends on"),
    ("package_name", "dotenv", "depends on"),
    ("package_name", "tests", "folder of the project"),
    ("description", "", "description"),
    ("description", "right-to-left \u202e override", "U+202E"),
    ("description", "<< 7 * 7 >>", "given as a template"),
    ("description", "# % set x = 1\nhello", "given as a template"),
    ("project_name", "\u200d", "project name"),
    ("__description", "other", "Leave out __description"),
    ("__project_name", "other", "Leave out __project_name"),
    ("__author_name", "", "Leave out __author_name"),
    ("__service", "x; touch y", "Leave out __service"),
    ("__asked_slug", "other", "Leave out __asked_slug"),
    ("__made_slug", "other", "Leave out __made_slug"),
    ("__year", "2026; touch y", "Leave out __year"),
    ("__year", "1984", "Leave out __year"),
    ("_copy_without_render", "src", "Leave out _copy_without_render"),
    ("_new_lines", "\r", "Leave out _new_lines"),
    ("author_name", "", "author name"),
    ("author_email", "ada", "e-mail"),
    ("author_email", "", "e-mail"),
    ("author_email", "ada@", "e-mail"),
    ("author_email", ".@a..b", "e-mail"),
    ("author_email", "x" * 65 + "@example.com", "e-mail"),
    ("author_email", 'ada"@example.com', "e-mail"),
    ("author_email", "ada lovelace@example.com", "e-mail"),
    ("domain_name", "", "domain name"),
    ("domain_name", "example", "domain name"),
    ("domain_name", "https://example.com", "domain name"),
    ("domain_name", "example.com:80", "domain name"),
    ("domain_name", "exa mple.com", "domain name"),
    ("domain_name", "-example.com", "domain name"),
    ("domain_name", "127.0.0.1", "domain name"),
    ("domain_name", "example.com;", "domain name"),
    ("domain_name", "x" * 64 + ".com", "domain name"),
]


@pytest.mark.parametrize(("key", "answer", "said"), BAD)
def test_bad_answer_is_refused_in_one_sentence(
    key: str, answer: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Run cookiecutter in this process, as there are many cases; the next test runs the program."""
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    config = tmp_path / "config.yaml"
    config.write_text(f"replay_dir: {tmp_path}/replay\n")
    with pytest.raises(InvalidModeException) as error:  # its main() prints the message
        main.cookiecutter(
            str(ROOT),
            no_input=True,
            extra_context={key: answer},
            output_dir=str(folder),
            config_file=str(config),
        )
    (sentence,) = [line for line in str(error.value).splitlines() if said in line]
    assert sentence.endswith(".")
    assert capfd.readouterr() == ("", "")
    assert list(folder.iterdir()) == []
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


PRIVATE_DEFAULTS = {
    "__service": "x; touch y",
    "_copy_without_render": ["*"],
    "_extensions": ["jinja2.ext.do"],
    "_jinja2_env_vars": {"line_statement_prefix": "%%"},
    "_new_lines": "\r",
}


@pytest.mark.parametrize("key", PRIVATE_DEFAULTS)
def test_private_answer_of_a_config_file_is_refused(key: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"default_context": {key: PRIVATE_DEFAULTS[key]}}))
    (tmp_path / "deep/out").mkdir(parents=True)
    done = cookiecutter(tmp_path / "deep/out", config=config)
    assert done.returncode == 1
    said = f"Leave out {key}: answers that begin with _ cannot be given.\n"
    if key == "_extensions":  # they then refuse nothing, but the hook does
        assert done.stderr == said
    else:
        assert (done.stdout, done.stderr) == (said, "")
    assert list((tmp_path / "deep/out").iterdir()) == []


def test_extensions_of_the_command_line_are_refused(tmp_path: Path) -> None:
    (tmp_path / "deep/out").mkdir(parents=True)
    done = cookiecutter(tmp_path / "deep/out", "_extensions=jinja2.ext.do")
    assert done.returncode == 1
    assert done.stdout.startswith("Unable to load extension: ")
    assert "Traceback" not in done.stdout + done.stderr
    assert list((tmp_path / "deep/out").iterdir()) == []


def test_changed_replay_file_is_refused_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = home / "deep/out"
    folder.mkdir(parents=True)
    assert cookiecutter(folder).returncode == 0
    (replay,) = home.glob(".cookiecutter_replay/*.json")
    recorded = json.loads(replay.read_text())
    recorded["cookiecutter"]["__year"] = "2026"
    for key, value, said in (
        ("__service", "x; touch y", "Leave out __service"),
        ("__unknown", "x", "Leave out __unknown"),
        ("_new_lines", "\r", "Leave out _new_lines"),
        ("database", "oracle", "The database is 'oracle'"),
        ("license", "none", "The license is 'none'"),
        ("project_slug", "../escape", "Leave out "),
        ("", "", ""),
    ):
        changed = recorded["cookiecutter"] | ({key: value} if key else {})
        replay.write_text(json.dumps(recorded | {"cookiecutter": changed}))
        shutil.rmtree(folder)
        folder.mkdir()
        done = cookiecutter(folder, "--replay-file", str(replay), typed="\n")
        assert said in done.stdout
        assert done.stderr == ""
        assert "Traceback" not in done.stdout
        assert (done.returncode, len(list(folder.iterdir()))) == ((1, 0) if key else (0, 1)), key
        assert [path.name for path in folder.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("late", [False, True], ids=["answers", "hook"])
def test_several_bad_answers_get_a_sentence_each_and_nothing_else(
    late: bool, tmp_path: Path
) -> None:
    """The same holds for an answer that only the hook refuses."""
    (tmp_path / "out").mkdir()
    given = ["package_name=class", "author_email=x", "domain_name=y"]
    given += ["__checked=", "description=<< 7 * 7 >>"] if late else []
    done = cookiecutter(tmp_path / "out", *given)
    assert (done.returncode, done.stderr) == (1, "")
    sentences = done.stdout.splitlines()
    words = ["keyword", *(["given as a template"] if late else []), "e-mail", "domain name"]
    assert all(word in line for word, line in zip(words, sentences, strict=True))
    assert all(line.endswith(".") for line in sentences)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("project_slug", "A.b_c-9"),
        ("package_name", "x"),
        ("package_name", "match_42"),
        ("domain_name", "a-b.example.co.uk"),
        ("domain_name", "xn--bcher-kva.example"),
        ("author_email", "o'neil+tag@mail.example.com"),
    ],
)
def test_unusual_answer_is_accepted(key: str, answer: str, bake: Bake) -> None:
    bake(**{key: answer})


@pytest.mark.parametrize(
    ("name", "slug", "package"),
    [
        ("Größe & Maß 2", "grosse-mass-2", "grosse_mass_2"),
        ("2 Go", "2-go", "app_2_go"),
        ("🚀", "project", "project"),
        ("long name " * 20, "-".join(["long-name"] * 8), "_".join(["long_name"] * 4)),
    ],
)
def test_slug_and_package_are_derived_from_the_project_name(
    name: str, slug: str, package: str, bake: Bake
) -> None:
    project = bake(project_name=name.strip())
    assert (project.path.name, project.package) == (slug, package)


def test_answer_that_is_not_text_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("default_context:\n  description: null\n")
    (tmp_path / "deep/out").mkdir(parents=True)
    done = cookiecutter(tmp_path / "deep/out", config=config)
    assert done.returncode == 1
    assert done.stdout.startswith("The answers to description are no text")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_hook_knows_every_installed_import_name(installed: Project) -> None:
    program = (
        "from importlib.metadata import packages_distributions as p;"
        "print(*(name for name, owners in p().items() if {*owners} - {'pip', 'setuptools'}))"
    )
    names = subprocess.run(
        [installed.bin / "python", "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    source = (ROOT / "local_extensions.py").read_text()
    (listed,) = re.findall(r'INSTALLED = """(.*?)"""', source, re.DOTALL)
    importable = {name for name in names if name.isidentifier()} - {installed.package}
    assert importable - set(listed.split()) == set()


HOSTILE = {
    "quotes": """He said "it's" and '''so''' and \"\"\"so\"\"\" """.strip(),
    "backslashes": r"C:\new\table\u0041\x41 and a last one \\",
    "markup": "&amp; <script>alert('1')</script> --> ]]> </title>",
    "template": "{{ 7*7 }} {% raw %} {# no #} ${{ x }} << cookiecutter._template >> <% x %> <# y #>",
    "lines": "# % if x #% endif # comment",
    "shell": "$HOME $(id) `id` %s %(x)s %n ; | & > /dev/null ! ~ * ? [a]",
    "leading dash": "-rf --help",
    "emoji": "🚀 👩🏽‍💻 naïve 漢字 Ωmega",
    "right to left": "שלום עולם مرحبا",
    "long": "long " * 40,
    "spaces": "a    b",
    "equals": "= : , # [x] {y} *z* _w_ @v",
    "one": "0",
    "yaml": "yes: no",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_free_text_arrives_as_typed(text: str, bake: Bake) -> None:
    text = text.strip()
    given = dict.fromkeys(("project_name", "description", "author_name"), text)
    project = bake(**given, project_slug="given", package_name="given")

    about = ast.parse((project.path / "src/given/about.py").read_text())
    constants = {
        node.target.id: ast.literal_eval(node.value)
        for node in about.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    }
    texts = dict.fromkeys(("NAME", "DESCRIPTION", "AUTHOR"), text)
    assert constants == texts | {"DISTRIBUTION": "given"}
    metadata = tomllib.loads((project.path / "pyproject.toml").read_text())["project"]
    assert metadata["description"] == text
    assert metadata["authors"][0]["name"] == text
    (paragraph,) = re.findall(r'^<p dir="auto">(.*)</p>$', project.readme(), re.MULTILINE)
    assert unescape(paragraph) == text
    assert f" {text}\n" in (project.path / "LICENSE").read_text()


def hostile_answers(**others: str) -> dict[str, str]:
    """Return answers that all differ from the defaults, except the database."""
    text = " ".join(HOSTILE[kind] for kind in ("quotes", "markup", "template", "emoji"))[:200]
    return {
        "project_name": HOSTILE["shell"],
        "project_slug": "hostile",
        "package_name": "hostile",
        "description": text.strip(),
        "author_name": HOSTILE["quotes"] + HOSTILE["backslashes"] + " Жанна",
        "author_email": "o'neil+tag@mail.example.net",
        "domain_name": "tea.example",
        "license": "Apache-2.0",
    } | others


def test_each_question_has_a_prompt_that_is_a_sentence() -> None:
    prompts = json.loads((ROOT / "cookiecutter.json").read_text())["__prompts__"]
    assert list(prompts) == list(answers())
    for key, prompt in prompts.items():
        choices = answers()[key]
        sentence = prompt if isinstance(prompt, str) else prompt["__prompt__"]
        assert sentence[0].isupper()
        assert sentence.endswith("?")
        if isinstance(choices, list):
            assert list(prompt) == ["__prompt__", *choices]


def test_hooks_are_valid_python() -> None:
    for hook in (ROOT / "hooks").glob("*.py"):
        assert importlib.util.spec_from_file_location(hook.stem, hook)
        ast.parse(hook.read_text())
