from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.deployment import Deployment
from package_name.environment import (
    FromEnvironment,
    doubts,
    example,
    read,
)
from package_name.settings import Settings

# % endfilter
ROOT = Path(__file__).parent.parent
KINDS: tuple[type[FromEnvironment], ...] = (Settings, Deployment)
FIELDS = [(kind, name) for kind in KINDS for name in kind.model_fields]
CHOICES = [
    (kind, name, choice)
    for kind, name in FIELDS
    if get_origin(kind.model_fields[name].annotation) is Literal
    for choice in get_args(kind.model_fields[name].annotation)
]
PRINTED = "<printed by `"
WRONG = "/dev/null/?!"
"""An invalid value for each setting that does not accept any text."""


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_each_message_of_a_wrong_setting_has_an_example(
    kind: type[FromEnvironment], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / ".env").write_text(f"{name.upper()}={WRONG}")
    try:
        taken = getattr(read(kind), name)
        assert WRONG in {taken, getattr(taken, "get_secret_value", str)()}
    except SystemExit as error:
        first, *lines = str(error).splitlines()
        assert first == "Cannot start, the settings are wrong:"
        assert lines == [line for line in lines if line.startswith(f"  {name.upper()}: ")]
        assert lines[0].endswith(f"; for example {example(kind, name)}")
        assert example(kind, name).partition("=")[2] not in {"", "PydanticUndefined"}


def test_examples_are_good_values_and_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [example(kind, name) for kind, name in FIELDS]
    examples = [each for each in examples if not each.endswith("=...")]
    for each in examples:
        if not each.startswith("SECRET_KEYS="):
            monkeypatch.delenv(each.partition("=")[0], raising=False)
    printed = [each.partition(PRINTED)[2] for each in examples if PRINTED in each]
    assert {each.split()[1].rstrip("`>") for each in printed} == {"secret", "password"}
    (tmp_path / ".env").write_text("\n".join(each for each in examples if PRINTED not in each))
    for kind in KINDS:
        read(kind)


@pytest.mark.parametrize(("kind", "name", "choice"), CHOICES)
def test_case_of_choices_does_not_matter(
    kind: type[FromEnvironment], name: str, choice: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in (str(choice).lower(), str(choice).upper(), str(choice).title()):
        monkeypatch.setenv(name.upper(), text)
        assert getattr(read(kind), name) == choice


def test_case_of_words_among_other_values_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "Unix")
    monkeypatch.setenv("NGINX_WORKER_PROCESSES", "AUTO")
    assert read(Settings).trusted_proxies == ("unix",)
    assert read(Deployment).nginx_worker_processes == "auto"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ALOWED_HOSTS", "ALLOWED_HOSTS"),
        ("ENVIROMENT", "ENVIRONMENT"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("log_levl", "LOG_LEVEL"),
        ("SECRET_KEY", "SECRET_KEYS"),
        ("WEB_CONCURENCY", "WEB_CONCURRENCY"),
        ("NGINX_MAX_UPLOADS", "NGINX_MAX_UPLOAD"),
        ("PORTS", "PORT"),
    ],
)
def test_name_in_env_file_that_is_close_to_a_setting_is_named(
    tmp_path: Path, name: str, meant: str
) -> None:
    (tmp_path / ".env").write_text(f"{name}=x\nPOSTGRES_PASSWORD=x\nSMTP_HOST=x\n{meant}=\n")
    assert doubts() == [f"{name.upper()} in .env is not a setting, but {meant} is"]


def test_name_in_the_environment_that_hardly_differs_from_a_setting_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No warning if the similar setting is set: the name then belongs to something else."""
    for name in ("PORTS", "HOSTS", "HOSTNAME", "LOGLEVEL", "RUN_FOLDERS_OF_OTHERS"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SECRET_KEY", "x")  # the fixture sets SECRET_KEYS
    assert doubts() == []
    monkeypatch.setenv("TRUSTED_PROXYS", "x")
    assert doubts() == [
        "TRUSTED_PROXYS in the environment is not a setting, but TRUSTED_PROXIES is"
    ]
    monkeypatch.delenv("TRUSTED_PROXYS")
    monkeypatch.setenv("HOST", "ada-laptop")
    assert doubts() == ["HOST=ada-laptop in the environment is ignored, as it is not an address"]


def test_misspelt_name_is_named_beside_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECRET_KEYS")
    (tmp_path / ".env").write_text("SECRET_KEY=x")
    with pytest.raises(SystemExit) as error:
        read(Settings)
    assert str(error.value).splitlines() == [
        "Cannot start, the settings are wrong:",
        "  SECRET_KEYS: Field required; for example SECRET_KEYS=<printed by `make secret`>",
        "  SECRET_KEY in .env is not a setting, but SECRET_KEYS is",
    ]
