"""The project under every server, as a separate process over real sockets."""

import re
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import (
    PRODUCTION,
    TIMEOUT,
    Project,
    answers_at,
    clean_environment,
    client,
    free_port,
    gunicorn,
    in_env_file,
    lines,
    standalone,
    started,
    wait_for,
)


@pytest.mark.parametrize("kind", ["port", "unix", "GunicornWebWorker", "GunicornUVLoopWebWorker"])
def test_server_serves_pages_logs_requests_and_stops(
    kind: str, installed: Project, tmp_path: Path
) -> None:
    port, uds = free_port(), tmp_path / "server.sock"
    address = None if kind == "port" else uds
    command = {
        "port": standalone(installed, "--port", str(port)),
        "unix": standalone(installed, "--path", str(uds)),
    }.get(
        kind,
        gunicorn(installed, "--bind", f"unix:{uds}", "--worker-class", f"aiohttp.{kind}"),
    )
    base = f"http://localhost:{port}"
    ready = answers_at(f"{base}/livez", address)
    with started(command, tmp_path / "log", ready, installed.path, **PRODUCTION) as server:
        with client(address) as http:
            page = http.get(f"{base}/", headers={"Accept": "text/html"})
            assert page.status_code == 200
            assert "My Service" in page.text
            css = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
            assert "immutable" in http.get(base + css).headers["Cache-Control"]
            ready_now = {"status": "ready", "down": []}
            wait_for(lambda: http.get(f"{base}/readyz").json() == ready_now, "it to be ready")
            assert http.get(f"{base}/admin/").status_code == 401
            missing = http.get(f"{base}/nowhere")
            assert missing.json()["request_id"] == missing.headers["X-Request-ID"]
        assert server.stop(signal.SIGTERM) == 0
    access = [line for line in lines(server) if line["logger"] == "access"]
    by_route = {line["route"]: line for line in access}
    assert by_route[None]["request_id"] == missing.headers["X-Request-ID"]
    assert by_route["index"]["status"] == 200
    assert by_route["admin:overview"]["status"] == 401
    assert by_route["index"]["client"] == ("127.0.0.1" if kind == "port" else "unix")
    fields = {frozenset(line) for line in access}
    assert fields == {
        frozenset(
            {"event", "level", "logger", "timestamp", "request_id", "client", "method", "path"}
            | {"scheme", "route", "status", "bytes", "duration_ms", "user_agent"}
        )
    }


def test_signal_stops_server_despite_an_idle_connection(installed: Project, tmp_path: Path) -> None:
    variables = PRODUCTION | {"DRAIN_TIMEOUT": "0.5"}
    for number in (signal.SIGINT, signal.SIGTERM):
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        command = standalone(installed, "--port", str(port))
        ready = answers_at(f"{base}/livez")
        with (
            client() as http,
            started(command, tmp_path / "log", ready, installed.path, **variables) as server,
        ):
            assert http.get(f"{base}/livez").status_code == 200  # and keep the connection open
            assert server.stop(number) == 0
        # The connection of the readiness check may still be open, too.
        events = [str(line["event"]) for line in lines(server)]
        assert any(re.fullmatch(r"draining [12] connections", event) for event in events), events


def test_make_run_and_make_serve_listen_where_env_file_says_and_stop_on_ctrl_c(
    installed: Project, tmp_path: Path
) -> None:
    """A HOST that a shell or conda exports is ignored, and misspelt settings are reported."""
    for target in ("run", "serve"):
        port = free_port()
        ready = answers_at(f"http://127.0.0.1:{port}/livez")
        given = {"PORT": str(port), "HOST": "127.0.0.1", "LOG_LEVEL": "info", "ALOWED_HOSTS": "x"}
        stray = {"HOST": "x86_64-conda-linux-gnu"}
        with (
            in_env_file(installed, **given),
            started(["make", target], tmp_path / target, ready, installed.path, **stray) as server,
        ):
            server.stop(signal.SIGINT)
        assert "Traceback" not in server.output()
        assert "ALOWED_HOSTS in .env is not a setting, but ALLOWED_HOSTS is" in server.output()


def test_servers_that_others_reach_refuse_development(installed: Project, tmp_path: Path) -> None:
    """With .env as created by `make install`, however the listening address is set."""
    for command, environment in (
        (standalone(installed, "--host", "0.0.0.0"), {}),
        (gunicorn(installed), {"HOST": "0.0.0.0"}),
        (gunicorn(installed, "--bind", "0.0.0.0:0"), {}),
        (["deploy/start.sh"], {"RUN_FOLDER": str(tmp_path / "run")}),
    ):
        done = subprocess.run(
            command,
            cwd=installed.path,
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 1, command
        (sentence,) = done.stderr.splitlines()
        assert "as ENVIRONMENT=development is for this host alone: " in sentence
    assert not (tmp_path / "run").exists()


def test_production_refuses_the_key_of_the_example(installed: Project, tmp_path: Path) -> None:
    """With .env as created by `make install`, except for ENVIRONMENT."""
    for command in (standalone(installed, "--port", "0"), gunicorn(installed)):
        with (
            pytest.raises(AssertionError) as error,
            started(
                command, tmp_path / "log", lambda: False, installed.path, ENVIRONMENT="production"
            ),
        ):
            pass
        said = (tmp_path / "log").read_text()
        assert "SECRET_KEYS: a key is for development" in said, error.value
        assert "Traceback" not in said
        assert len(said.splitlines()) == 2
