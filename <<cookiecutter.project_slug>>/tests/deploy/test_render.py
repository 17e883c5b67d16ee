import os
import re
import runpy
import sys
from getpass import getuser
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = [
    "nginx/nginx.conf",
    "nginx/site.conf",
    "supervisord/supervisord.conf",
    "systemd/app.service",
    "systemd/app.socket",
]


class Render(Protocol):
    def __call__(self, *arguments: str | Path) -> str: ...


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Render:
    """Return a function that runs deploy/render.py and returns its output."""

    def render(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["render.py", *map(str, arguments)])
        runpy.run_path(str(ROOT / "deploy/render.py"), run_name="__main__")
        return capsys.readouterr().out

    return render


@pytest.fixture(autouse=True)
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an nginx with a given version on the path; return the program."""
    program = tmp_path / "bin/nginx"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'nginx version: nginx/1.26.3' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the service as the user of the tests, with short paths wherever the project is."""
    monkeypatch.setenv("SERVICE_USER", getuser())
    monkeypatch.setenv("RUN_FOLDER", "/run/test")


@pytest.mark.parametrize(("server", "sockets"), [("gunicorn", 1), ("pool", 2)])
def test_render_fills_in_every_value_of_all_files(
    render: Render, server: str, sockets: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_SERVER", server)
    monkeypatch.setenv("RUN_FOLDER", "/run/test")
    render(*TEMPLATES, tmp_path / "out")
    for name in TEMPLATES:
        text = (tmp_path / "out" / Path(name).name).read_text()
        assert not re.search(r"\{\{|\{%|None", text)
    site = (tmp_path / "out/site.conf").read_text()
    assert len(re.findall(r"unix:(/run/test/sockets/\w+\.sock) ", site)) == sockets


def test_render_takes_the_limits_of_nginx_from_the_settings(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_BODY_SIZE", "2MiB")
    monkeypatch.setenv("MAX_UPLOAD_SIZE", "3MiB")
    monkeypatch.setenv("DRAIN_TIMEOUT", "2")
    text = render("nginx/site.conf")
    assert re.findall(r"client_max_body_size (\d+);", text) == ["2097152", str(3145728 + 16384)]
    assert "keepalive_timeout 1600ms;" in text
    monkeypatch.setenv("NGINX_MAX_UPLOAD", "0")
    assert "client_max_body_size 0;" in render("nginx/site.conf")


@pytest.mark.parametrize("address", ["::1", "[::1]"])
def test_render_puts_an_ipv6_address_in_brackets(
    render: Render, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("LISTEN_ADDRESS", address)
    assert "listen [::1]:8080;" in render("nginx/site.conf")


def test_render_enables_http2_in_the_syntax_of_the_installed_nginx(
    render: Render, nginx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLS_CERTIFICATE", "certs/localhost.pem")
    monkeypatch.setenv("TLS_KEY", "certs/localhost.key")
    text = render("nginx/site.conf")
    assert "http2 on;" in text
    assert f"ssl_certificate {ROOT}/certs/localhost.pem;" in text
    nginx.write_text("#!/bin/sh\necho 'nginx version: nginx/1.22.1' >&2\n")
    text = render("nginx/site.conf")
    assert re.search(r"listen 8443 ssl http2\b", text)
    assert "http2 on" not in text


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {}, "none was named"),
        (["nginx/none.conf"], {}, "No such file"),
        (["nginx/site.conf"], {"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        (["nginx/site.conf"], {"PORT": "x"}, "PORT"),
        (["nginx/site.conf"], {"ENVIRONMENT": "development"}, "is for this host alone"),
        (["nginx/nginx.conf", "/proc/none"], {}, "No such file or directory; set RUN_FOLDER"),
        (["nginx/site.conf"], {"RUN_FOLDER": "/" + "x" * 100}, "set RUN_FOLDER"),
        (["nginx/site.conf", "run"], {"SERVICE_USER": "nobody-has-it"}, "SERVICE_USER: "),
        (["nginx/site.conf"], {"UPLOAD_FOLDER": "up loads; root /"}, "only letters, digits"),
    ],
    ids=[
        *("no file", "unknown file", "wrong setting", "wrong deployment setting", "development"),
        *("unwritable folder", "overlong socket path", "unknown user", "unsafe path"),
    ],
)
def test_render_exits_with_one_message(
    render: Render,
    arguments: list[str],
    variables: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as error:
        render(*arguments)
    assert message in str(error.value)


NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="this machine lacks root")


@NEEDS_ROOT
@pytest.mark.parametrize("kind", ["open", "shared", "foreign", "link", "below", "through", "log"])
def test_root_renders_only_where_no_other_user_may_write(
    render: Render, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, place = tmp_path / "there/run", tmp_path / "there"
    folder.mkdir(parents=True)
    other = 65534
    if kind in {"open", "shared"}:
        folder.chmod({"open": 0o1777, "shared": 0o775}[kind])
    elif kind == "foreign":
        os.chown(folder, other, -1)
    elif kind == "log":
        monkeypatch.setenv("NGINX_ACCESS_LOG", str(place / "log"))
        place.chmod(0o777)
        folder = tmp_path / "run"
    elif kind == "below":
        place.chmod(0o777)
    else:
        folder.rmdir()
        place.chmod(0o1777)  # as /tmp
        link = folder if kind == "link" else tmp_path / "there/link"
        link.symlink_to(tmp_path, target_is_directory=True)
        os.chown(link, other, -1, follow_symlinks=False)
        folder = link if kind == "link" else link / "run"
    with pytest.raises(SystemExit) as error:
        render("nginx/nginx.conf", folder)
    assert "root does not write here, as others may" in str(error.value)
    assert not list(tmp_path.rglob("nginx.conf"))


@NEEDS_ROOT
def test_service_owns_nothing_but_the_folder_for_sockets(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_USER", "nobody")
    render("nginx/nginx.conf", "supervisord/supervisord.conf", tmp_path / "run")
    found = {path.name: path.stat() for path in (tmp_path / "run").rglob("*")}
    assert {name for name, status in found.items() if status.st_uid != 0} == {"sockets"}
    assert found["sockets"].st_mode & 0o777 == 0o700
    assert found["reload.lock"].st_mode & 0o777 == 0o600
    assert not any(status.st_mode & 0o022 for status in found.values())
