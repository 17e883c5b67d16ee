import re
from ipaddress import ip_network
from pathlib import Path

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.deployment import Deployment
from package_name.settings import Settings, load_settings

from .helpers import CHEAP_HASHER, no_file_descriptors

# % endfilter
ROOT = Path(__file__).parent.parent


def test_environment_takes_precedence_over_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=ERROR\nGRACEFUL_TIMEOUT=7\nSOMEBODY_ELSES=1\n")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    settings = load_settings()
    assert settings.log_level == "WARNING"
    assert settings.graceful_timeout == 7


def test_lists_are_split_at_commas_and_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, ::1,unix")
    assert load_settings().trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"), "unix")
    monkeypatch.setenv("TRUSTED_PROXIES", "")
    assert load_settings().trusted_proxies == ()


def test_load_settings_names_every_wrong_variable_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_KEYS", "development-key-in-production-" + "x" * 32)
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    monkeypatch.setenv("KEEPALIVE_TIMEOUT", "inf")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.300")
    with pytest.raises(SystemExit) as error:
        load_settings()
    names = re.findall(r"^  ([A-Z_]+): .", str(error.value), re.MULTILINE)
    assert sorted(names) == ["KEEPALIVE_TIMEOUT", "LOG_LEVEL", "SECRET_KEYS", "TRUSTED_PROXIES"]


@pytest.mark.parametrize("key", ["short-but-somehow-secret", "Development-only-" + "x" * 32])
def test_production_refuses_a_bad_key_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SECRET_KEYS", key)
    with pytest.raises(SystemExit) as error:
        load_settings()
    assert "SECRET_KEYS: " in str(error.value)
    assert key not in str(error.value)


def test_env_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"LOG_LEVEL=\xff\n")
    with pytest.raises(SystemExit, match=r"\.env cannot be read"):
        load_settings()


def test_env_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=DEBUG\n")
    with no_file_descriptors(), pytest.raises(SystemExit, match=r"Too many open files: .*\.env"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ALLOWED_HOSTS", "https://example.com", "without scheme and port"),
        ("ALLOWED_HOSTS", "example.com:80", "without scheme and port"),
        ("CORS_ORIGINS", "app.example.com", "name origins"),
        ("CORS_ORIGINS", "https://app.example.com/path", "name origins"),
        ("CORS_ORIGINS", "*", "name origins"),
        ("CORS_ORIGINS", "https://m\xfcnchen.example", "in ASCII (xn--...)"),
        ("CORS_ORIGINS", "https://app.example.com:99999", "name origins"),
        ("READ_TIMEOUT", "0", "greater than 0"),
        ("MAX_BODY_SIZE", "much", "could not parse"),
        ("MAX_WEBSOCKETS", "0", "greater than 0"),
        ("BUS_URL", "redis://localhost", "name local: and an absolute folder"),
        ("BUS_URL", "local:run/bus", "name local: and an absolute folder"),
        ("BUS_URL", "local:/" + "x" * 80, "longer than 80 bytes"),
        ("BUS_URL", "local:/dev/null/x", "/dev/null is not a writable folder"),
        ("ADMIN_USERS", "ada", "the hash of ada is none"),
        ("SESSION_LIFETIME", "-1", "greater than 0"),
        ("UPLOAD_FOLDER", "/dev/null/x", "/dev/null is not a writable folder"),
        ("ACCEL_REDIRECT", "_files", "name a location of nginx"),
    ],
)
def test_wrong_value_of_a_setting_is_explained(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as error:
        load_settings()
    (line,) = str(error.value).splitlines()[1:]
    assert line.startswith(f"  {name}: ")
    assert message in line


def test_cors_origins_are_kept_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given = "HTTPS://App.Example.com:443/, http://[::1]:0080, http://localhost:3000"
    monkeypatch.setenv("CORS_ORIGINS", given)
    kept = ("https://app.example.com", "http://[::1]", "http://localhost:3000")
    assert load_settings().cors_origins == kept


@pytest.mark.parametrize("quote", ["", "'", '"'], ids=["none", "single", "double"])
def test_admin_users_may_keep_their_quotes(monkeypatch: pytest.MonkeyPatch, quote: str) -> None:
    accounts = f"ada:{CHEAP_HASHER.hash(b'a')} bob:{CHEAP_HASHER.hash(b'b')}"
    monkeypatch.setenv("ADMIN_USERS", f"{quote}{accounts}{quote}")
    assert [str(account) for account in load_settings().admin_users] == ["ada", "bob"]


def test_admin_users_have_different_names(monkeypatch: pytest.MonkeyPatch) -> None:
    account = f"ada:{CHEAP_HASHER.hash(b'a')}"
    monkeypatch.setenv("ADMIN_USERS", f"{account} {account}")
    with pytest.raises(SystemExit, match="two accounts have the same name"):
        load_settings()


def test_repr_of_settings_hides_secret_keys() -> None:
    settings = load_settings()
    assert settings.secret_keys[0].get_secret_value() not in repr(settings)


def test_env_example_lists_every_setting_with_its_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    example = (ROOT / ".env.example").read_text()
    names = re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)
    fields = [*Settings.model_fields, *Deployment.model_fields]
    assert sorted(names) == sorted(name.upper() for name in fields)
    for name in names:  # the fixtures set some
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text(example)
    settings = load_settings()
    assert settings.development
    for name, field in Settings.model_fields.items():
        if name != "environment" and not field.is_required():
            assert getattr(settings, name) == field.default, name
    assert Deployment() == Deployment.model_construct()
