import re
from ipaddress import ip_network
from pathlib import Path

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.deployment import Deployment
from package_name.settings import Settings, load_settings, read

from .helpers import CHEAP_HASHER, GUNICORN, STANDALONE, running

# % endfilter
ROOT = Path(__file__).parent.parent


def test_the_environment_comes_first_then_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=ERROR\nGRACEFUL_TIMEOUT=7\nSOMEBODY_ELSES=1\n")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    settings = load_settings()
    assert settings.log_level == "WARNING"
    assert settings.graceful_timeout == 7


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, ::1,unix")
    assert load_settings().trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"), "unix")
    monkeypatch.setenv("TRUSTED_PROXIES", "")
    assert load_settings().trusted_proxies == ()


def test_one_message_names_every_wrong_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEYS", "development-key-in-production-" + "x" * 32)
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    monkeypatch.setenv("KEEPALIVE_TIMEOUT", "inf")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.300")
    with pytest.raises(SystemExit) as error:
        load_settings()
    named = re.findall(r"^  ([A-Z_]+): .", str(error.value), re.MULTILINE)
    assert sorted(named) == ["KEEPALIVE_TIMEOUT", "LOG_LEVEL", "SECRET_KEYS", "TRUSTED_PROXIES"]


@pytest.mark.parametrize("key", ["short-but-somehow-secret", "Development-only-" + "x" * 32])
def test_production_refuses_a_bad_key_and_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SECRET_KEYS", key)
    with pytest.raises(SystemExit) as error:
        load_settings()
    assert "SECRET_KEYS: " in str(error.value)
    assert key not in str(error.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"LOG_LEVEL=\xff\n")
    with pytest.raises(SystemExit, match=r"\.env cannot be read"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALLOWED_HOSTS", "https://example.com", "without scheme and port"),
        ("ALLOWED_HOSTS", "example.com:80", "without scheme and port"),
        ("CORS_ORIGINS", "app.example.com", "name origins"),
        ("CORS_ORIGINS", "https://app.example.com/path", "name origins"),
        ("CORS_ORIGINS", "*", "name origins"),
        ("READ_TIMEOUT", "0", "greater than 0"),
        ("MAX_BODY_SIZE", "much", "could not parse"),
        ("MAX_WEBSOCKETS", "0", "greater than 0"),
        ("BUS_URL", "redis://localhost", "name local: or a folder"),
        ("BUS_URL", "local:run/bus", "name local: or a folder"),
        ("BUS_URL", "local:/" + "x" * 80, "longer than 80 bytes"),
        ("BUS_URL", "local:/dev/null/x", "/dev/null is no folder that can be written to"),
        ("ADMIN_USERS", "ada", "the hash of ada is none"),
        ("SESSION_LIFETIME", "-1", "greater than 0"),
        ("UPLOAD_FOLDER", "/dev/null/x", "/dev/null is no folder that can be written to"),
        ("ACCEL_REDIRECT", "_files", "name a location of nginx"),
    ],
)
def test_wrong_values_get_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as error:
        load_settings()
    (line,) = str(error.value).splitlines()[1:]
    assert line.startswith(f"  {name}: ")
    assert said in line


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "0", "greater than or equal to 1"),
        ("WEB_CONCURRENCY", "0", "greater than or equal to 1"),
        ("APP_SERVER", "uwsgi", "'gunicorn' or 'pool'"),
        ("SERVICE_USER", "my service", "not the name of a user"),
        ("RUN_FOLDER", "/run/my service", "only letters, digits"),
        ("RUN_FOLDER", "/run/$HOME", "only letters, digits"),
        ("LISTEN_ADDRESS", "localhost; root /", "does not appear to be an IPv4 or IPv6 address"),
        ("NGINX_MAX_UPLOAD", "200 MB", "should match pattern"),
        ("NGINX_WORKER_PROCESSES", "many", "should match pattern"),
        ("TLS_KEY", "key.pem", "set both or neither"),
        ("NGINX_WORKER_OPEN_FILES", "64", "at least twice"),
        ("LISTEN_ADDRESS", "::1::", "does not appear"),
    ],
)
def test_what_surrounds_the_application_is_checked_too(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as error:
        read(Deployment)
    (line,) = str(error.value).splitlines()[1:]
    assert name in line
    assert said in line


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_quotes_that_were_left_in_place_do_no_harm(
    monkeypatch: pytest.MonkeyPatch, quote: str
) -> None:
    accounts = f"ada:{CHEAP_HASHER.hash(b'a')} bob:{CHEAP_HASHER.hash(b'b')}"
    monkeypatch.setenv("ADMIN_USERS", f"{quote}{accounts}{quote}")
    assert [str(account) for account in load_settings().admin_users] == ["ada", "bob"]
    monkeypatch.setenv("ADMIN_USERS", f"{accounts} {accounts}")
    with pytest.raises(SystemExit, match="two accounts have the same name"):
        load_settings()


def test_keys_are_not_shown() -> None:
    settings = load_settings()
    assert settings.secret_keys[0].get_secret_value() not in repr(settings)


@pytest.mark.parametrize("command", [STANDALONE, GUNICORN])
def test_servers_refuse_to_start_with_one_message(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECRET_KEYS")
    never = tmp_path / "never"
    with pytest.raises(AssertionError) as error, running(command, never, LOG_LEVEL="LOUD"):
        pass
    stdout, stderr = error.value.args[0]
    assert stdout == ""
    assert stderr.splitlines()[0] == "Cannot start, the settings are wrong:"
    assert "SECRET_KEYS" in stderr
    assert "LOG_LEVEL" in stderr
    assert "Traceback" not in stderr


def test_the_example_is_complete_and_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    named = re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE)
    fields = [*Settings.model_fields, *Deployment.model_fields]
    assert [name for name, _ in named] == [name.upper() for name in fields]
    for name, _ in named:  # as the tests have set some
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text(example)
    settings = load_settings()
    assert settings.development
    for name, field in Settings.model_fields.items():
        if name not in {"environment", "secret_keys"}:
            assert getattr(settings, name) == field.default, name
    assert Deployment() == Deployment.model_construct()
