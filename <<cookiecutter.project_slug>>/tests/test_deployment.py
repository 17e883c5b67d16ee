import re
from pathlib import Path

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.deployment import Deployment, check_reach, main
from package_name.environment import read
from package_name.settings import Settings, load_settings


# % endfilter
@pytest.mark.parametrize(
    ("name", "value", "message"),
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
        ("BIND", "8080", "name an address with its port"),
        ("BIND", "::1:8080", "name an address with its port"),
        ("BIND", "unix:", "name an address with its port"),
        ("TLS_PORT", "8080", "the same"),
    ],
)
def test_wrong_value_of_a_deployment_setting_is_explained(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    if name == "TLS_PORT":
        monkeypatch.setenv("TLS_CERTIFICATE", "certs/localhost.pem")
        monkeypatch.setenv("TLS_KEY", "certs/localhost.key")
    with pytest.raises(SystemExit) as error:
        read(Deployment)
    (line,) = str(error.value).splitlines()[1:]
    assert name in line
    assert message in line
    assert re.search(r"; for example [A-Z_]+=\S", line)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ("", "127.0.0.1:8080"),
        ("PORT=9000", "127.0.0.1:9000"),
        ("HOST=::", "[::]:8080"),
        ("HOST=[::1]", "[::1]:8080"),
        ("HOST=Localhost", "localhost:8080"),
        ("HOST=0.0.0.0\nBIND=unix:/run/a.sock", "unix:/run/a.sock"),
        ("BIND=[::1]:80", "[::1]:80"),
        ("BIND=app.internal:80", "app.internal:80"),
    ],
)
def test_address_is_what_bind_says_else_host_and_port(
    tmp_path: Path, settings: str, address: str
) -> None:
    (tmp_path / ".env").write_text(settings)
    assert read(Deployment).address == address


@pytest.mark.parametrize("host", ["x86_64-conda-linux-gnu", "ada-laptop", "tcp://10.0.0.1:80"])
def test_host_of_the_environment_that_is_not_an_address_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """conda and some shells export a HOST like these."""
    monkeypatch.setenv("HOST", host)
    assert read(Deployment).host == "127.0.0.1"
    (tmp_path / ".env").write_text("HOST=::1")
    assert read(Deployment).host == "[::1]"
    (tmp_path / ".env").write_text(f"HOST={host}")
    with pytest.raises(SystemExit, match=r"  HOST: .*; for example HOST=127\.0\.0\.1"):
        read(Deployment)


def test_nginx_listens_on_port_unless_it_has_one_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "9000")
    assert read(Deployment).listen_port == 9000
    monkeypatch.setenv("LISTEN_PORT", "80")
    assert read(Deployment).listen_port == 80


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1:8080", True),
        ("127.9.9.9:8080", True),
        ("[::1]:8080", True),
        ("localhost:8080", True),
        ("0.0.0.0:8080", False),
        ("[::]:8080", False),
        ("192.168.1.5:8080", False),
        ("app.internal:8080", False),
        ("unix:/run/app.sock", False),
        ("unix:127.0.0.1:80", False),
        ("fd://3", False),
    ],
)
def test_development_is_for_this_host_alone_unless_others_are_allowed(
    monkeypatch: pytest.MonkeyPatch, address: str, own: bool
) -> None:
    check_reach(load_settings(), address)  # production
    monkeypatch.setenv("ENVIRONMENT", "development")
    if own:
        check_reach(load_settings(), address)
    else:
        with pytest.raises(SystemExit, match=r"ENVIRONMENT=production.* DEV_ALLOW=\d") as error:
            check_reach(load_settings(), "127.0.0.1:1", address)
        assert f"Cannot listen on {address}, " in str(error.value)
    monkeypatch.setenv("DEV_ALLOW", "192.168.1.0/24")
    check_reach(load_settings(), address)


def test_write_env_makes_one_for_production_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECRET_KEYS")
    main(["write-env"])
    file = tmp_path / ".env"
    assert file.stat().st_mode & 0o777 == 0o600
    first = read(Settings)
    assert not first.development
    main(["write-env"])
    assert read(Settings) == first  # the file is not changed
    file.unlink()
    main(["write-env"])
    assert read(Settings).secret_keys != first.secret_keys
    file.write_text("ENVIRONMENT=Development\n")
    with pytest.raises(SystemExit, match=r"move \.env away, and `make production` makes one"):
        main(["write-env"])
    assert file.read_text() == "ENVIRONMENT=Development\n"


def test_a_setting_is_printed_for_shell_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run_folder"])
    (tmp_path / ".env").write_text("RUN_FOLDER=/run/elsewhere")
    main(["run_folder"])
    assert capsys.readouterr().out == "run\n/run/elsewhere\n"
    with pytest.raises(SystemExit, match="Name one of write-env, bind, "):
        main(["no_setting"])
