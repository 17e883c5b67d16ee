"""The files of deploy/, filled in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = [
    "nginx/nginx.conf",
    "nginx/site.conf",
    "supervisord/supervisord.conf",
    "systemd/app.service",
    "systemd/app.socket",
]


def render(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "deploy/render.py", *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find an nginx of a certain version, as what is filled in depends on that."""
    program = tmp_path / "bin/nginx"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'nginx version: nginx/1.26.3' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize("server", ["gunicorn", "pool"])
def test_nothing_is_left_to_fill_in(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_SERVER", server)
    monkeypatch.setenv("RUN_FOLDER", "/run/test")
    done = render(*TEMPLATES, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for name in TEMPLATES:
        text = (tmp_path / "out" / Path(name).name).read_text()
        assert not re.search(r"\{\{|\{%|None", text)
    sockets = re.findall(r"unix:(/run/test/\w+\.sock) ", (tmp_path / "out/site.conf").read_text())
    assert len(sockets) == {"gunicorn": 1, "pool": 2}[server]


def test_limits_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BODY_SIZE", "2MiB")
    monkeypatch.setenv("MAX_UPLOAD_SIZE", "3MiB")
    monkeypatch.setenv("DRAIN_TIMEOUT", "2")
    text = render("nginx/site.conf").stdout
    assert re.findall(r"client_max_body_size (\d+);", text) == ["2097152", str(3145728 + 16384)]
    assert "keepalive_timeout 1600ms;" in text
    monkeypatch.setenv("NGINX_MAX_UPLOAD", "0")
    assert "client_max_body_size 0;" in render("nginx/site.conf").stdout


def test_an_address_of_the_sixth_version_is_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("::1", "[::1]"):
        monkeypatch.setenv("LISTEN_ADDRESS", address)
        assert "listen [::1]:8000;" in render("nginx/site.conf").stdout


def test_http2_is_spelt_as_the_installed_nginx_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLS_CERTIFICATE", "certs/localhost.pem")
    monkeypatch.setenv("TLS_KEY", "certs/localhost.key")
    text = render("nginx/site.conf").stdout
    assert "http2 on;" in text
    assert f"ssl_certificate {ROOT}/certs/localhost.pem;" in text
    (tmp_path / "bin/nginx").write_text("#!/bin/sh\necho 'nginx version: nginx/1.22.1' >&2\n")
    text = render("nginx/site.conf").stdout
    assert re.search(r"listen 8443 ssl http2\b", text)
    assert "http2 on" not in text


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        ([], {}, "none was named"),
        (["nginx/none.conf"], {}, "No such file"),
        (["nginx/site.conf"], {"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
        (["nginx/site.conf"], {"PORT": "x"}, "PORT"),
        (["nginx/nginx.conf", "/proc/none"], {}, "No such file or directory; set RUN_FOLDER"),
        (["nginx/site.conf"], {"RUN_FOLDER": "/" + "x" * 100}, "set RUN_FOLDER"),
        (["nginx/site.conf"], {"UPLOAD_FOLDER": "up loads; root /"}, "only letters, digits"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(
    arguments: list[str],
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = render(*arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
