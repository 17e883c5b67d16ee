"""The files of deploy/ agree with one another, and with the settings used to render them."""

import configparser
import re
import subprocess
from collections.abc import Callable
from functools import cache
from getpass import getuser
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from conftest import PRODUCTION, Project, clean_environment
from needs import needs

pytestmark = [needs("nginx"), pytest.mark.xdist_group("coherence")]  # they share the rendered files

Render = Callable[..., str]
FILES = [
    "nginx/nginx.conf",
    "nginx/site.conf",
    "supervisord/supervisord.conf",
    "systemd/app.service",
    "systemd/app.socket",
]


@cache
def rendered(project: Project, **environment: str) -> dict[str, str]:
    """Return the rendered files by name."""
    variables = PRODUCTION | {"RUN_FOLDER": "/run/test", "SERVICE_USER": getuser()} | environment
    with TemporaryDirectory() as folder:
        subprocess.run(
            [project.bin / "python", "deploy/render.py", *FILES, folder],
            cwd=project.path,
            env=clean_environment(**variables),
            check=True,
        )
        return {name: Path(folder, Path(name).name).read_text() for name in FILES}


@pytest.fixture
def render(installed: Project) -> Render:
    """Return a function that renders a file with some settings."""
    return lambda name, **environment: rendered(installed, **environment)[name]


@cache
def settings(project: Project, **environment: str) -> dict[str, float]:
    """Return the numeric settings of the application."""
    program = f"""
from {project.package}.settings import Settings
print({{key: float(value) for key, value in Settings() if isinstance(value, (int, float))}})
"""
    done = subprocess.run(
        [project.bin / "python", "-c", program],
        cwd=project.path,
        env=clean_environment(**(PRODUCTION | environment)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(eval(done.stdout))


@cache
def gunicorn(project: Project, **environment: str) -> dict[str, str]:
    """Return gunicorn's configuration, as gunicorn prints it."""
    command = [
        str(project.bin / "gunicorn"),
        "--config",
        "deploy/gunicorn.conf.py",
        "--print-config",
    ]
    done = subprocess.run(
        command,
        cwd=project.path,
        env=clean_environment(**(PRODUCTION | environment)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(re.findall(r"^(\w+) += (.*)$", done.stdout, re.MULTILINE))


def one(pattern: str, text: str) -> str:
    """Return the only match. Raise an error if there are more or none."""
    (found,) = set(re.findall(pattern, text, re.MULTILINE))
    return str(found)


SETTINGS = [
    {},
    {"MAX_BODY_SIZE": "2MiB", "MAX_UPLOAD_SIZE": "3GiB"},
    {"GRACEFUL_TIMEOUT": "100", "DRAIN_TIMEOUT": "2", "KEEPALIVE_TIMEOUT": "1.5"},
]


@pytest.mark.parametrize("given", SETTINGS, ids=lambda given: "-".join(given) or "defaults")
def test_nginx_has_the_limits_and_timeouts_of_the_settings(
    given: dict[str, str], installed: Project, render: Render
) -> None:
    app = settings(installed, **given)
    site = render("nginx/site.conf", **given)
    server, uploads = map(int, re.findall(r"client_max_body_size (\d+);", site))
    form = installed.path / "src" / installed.package / "admin/files/form.py"
    overhead = eval(one(r"^OVERHEAD: Final = (.+)$", form.read_text()))
    assert server == app["max_body_size"]
    assert uploads == app["max_upload_size"] + overhead
    idle = int(one(r"^    keepalive_timeout (\d+)ms;", site)) / 1000
    assert 0 < idle < min(app["keepalive_timeout"], app["drain_timeout"])
    sockets = installed.path / "src" / installed.package / "live/sockets.py"
    heartbeat = float(one(r"^HEARTBEAT: Final = (.+)$", sockets.read_text()))
    assert int(one(r"proxy_read_timeout (\d+)s;", site)) > 2 * heartbeat


@pytest.mark.parametrize("given", SETTINGS, ids=lambda given: "-".join(given) or "defaults")
def test_supervisors_wait_longer_than_the_server_takes_to_stop(
    given: dict[str, str], installed: Project, render: Render
) -> None:
    graceful = settings(installed, **given)["graceful_timeout"]
    master = int(gunicorn(installed, **given)["graceful_timeout"])
    # Handlers, shielded work and periodic work each have that much time.
    assert master > 3 * graceful
    nginx = int(one(r"worker_shutdown_timeout (\d+)s;", render("nginx/nginx.conf", **given)))
    assert nginx >= graceful
    for server in ("gunicorn", "pool"):
        text = render("supervisord/supervisord.conf", **given, APP_SERVER=server)
        conf = configparser.RawConfigParser()
        conf.read_string(text)
        assert int(conf["program:app"]["stopwaitsecs"]) > master
        assert int(conf["program:nginx"]["stopwaitsecs"]) > nginx
    unit = render("systemd/app.service", **given)
    assert int(one(r"^TimeoutStopSec=(\d+)$", unit)) > master


def test_systemd_unit_allows_migrations_to_finish_and_the_database_to_be_written(
    installed: Project, render: Render
) -> None:
    env = (installed.path / "migrations/env.py").read_text()
    patience = float(one(r"^PATIENCE = (.+)$", env))
    unit = render("systemd/app.service")
    # Enough to wait for another migration and then run one.
    assert one(r"^TimeoutStartSec=(.+)$", unit) == "1h"
    assert 2 * patience < 3600
    uploads, data = one(r"^ReadWritePaths=(.+)$", unit).split()
    assert data == str(installed.path / "data")
    unit = render("systemd/app.service", DATABASE_URL="sqlite:////tmp/of-the-tests/app.db")
    assert one(r"^ReadWritePaths=(.+)$", unit) == f"{uploads} /tmp/of-the-tests"
    assert one(r"^NoExecPaths=(.+)$", unit).startswith(f"{uploads} /tmp/of-the-tests ")
    # In its own folder, because nothing in a writable folder may be executed.
    for url in ("sqlite:///app.db", "sqlite:////app.db"):
        with pytest.raises(subprocess.CalledProcessError):
            render("systemd/app.service", DATABASE_URL=url)


def test_containers_have_enough_time_to_stop(installed: Project) -> None:
    master = int(gunicorn(installed)["graceful_timeout"])
    compose = yaml.safe_load((installed.path / "deploy/docker/compose.yaml").read_text())
    served = [compose["services"][name] for name in ("app", "nginx")]
    assert {service["stop_grace_period"] for service in served} == {"2m"}
    readme = (installed.path / "deploy/README.md").read_text()
    assert 120 == int(one(r"--stop-timeout (\d+)", readme)) > master


@pytest.mark.parametrize("server", ["gunicorn", "pool"])
def test_nginx_and_the_servers_use_the_same_sockets(
    server: str, installed: Project, render: Render
) -> None:
    variables = {"APP_SERVER": server, "WEB_CONCURRENCY": "3"}
    upstream = re.findall(r"server unix:(\S+) ", render("nginx/site.conf", **variables))
    text = render("supervisord/supervisord.conf", **variables)
    conf = configparser.RawConfigParser()
    conf.read_string(text)
    program = conf["program:app"]
    if server == "gunicorn":
        assert upstream == [one(r'BIND="unix:([^"]+)"', program["environment"])]
        listening = re.findall(r"^ListenStream=(.+)$", render("systemd/app.socket"), re.MULTILINE)
        assert upstream == listening
    else:
        path = one(r"--path (\S+)", program["command"])
        first, count = int(program["numprocs_start"]), int(program["numprocs"])
        numbers = range(first, first + count)
        assert upstream == [path.replace("%(process_num)s", str(each)) for each in numbers]
    assert Path(upstream[0]).parent == Path("/run/test/sockets")
    # The application names the location from which nginx sends files.
    accel = one(r'ACCEL_REDIRECT="([^"]+)"', program["environment"])
    assert f"    location {accel} {{\n        internal;" in render("nginx/site.conf", **variables)


def test_image_and_compose_use_the_same_ports_and_socket(
    installed: Project, render: Render
) -> None:
    docker = installed.path / "deploy/docker"
    dockerfile = (docker / "Dockerfile").read_text()
    port = one(r"^EXPOSE (\d+)$", dockerfile)
    assert one(r"^    PORT=(\d+)", dockerfile) == port
    compose = yaml.safe_load((docker / "compose.yaml").read_text())
    assert compose["services"]["nginx"]["ports"] == ["${PUBLISH:-8080}:" + port]
    app, nginx = (compose["services"][name]["environment"] for name in ("app", "nginx"))
    assert nginx["LISTEN_PORT"] == port
    assert nginx["ACCEL_REDIRECT"] == app["ACCEL_REDIRECT"]
    text = render("nginx/site.conf", LISTEN_PORT=port, LISTEN_ADDRESS="")
    assert re.search(rf"^    listen {port};", text, re.MULTILINE)
    bound = gunicorn(installed, BIND="", HOST="0.0.0.0", PORT=port)["bind"]
    assert f"0.0.0.0:{port}" in bound
    socket = app["BIND"].removeprefix("unix:")
    text = render("nginx/site.conf", RUN_FOLDER=str(Path(socket).parent.parent))
    assert f"server unix:{socket} " in text


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        ("", {"For": "$remote_addr", "Host": '""', "Proto": "$scheme"}),
        (
            "10.0.0.0/8,unix",
            {
                "For": '"$http_x_forwarded_for, $realip_remote_addr"',
                "Host": '"$http_x_forwarded_host, $my_service_asked"',
                "Proto": '"$http_x_forwarded_proto, $scheme"',
            },
        ),
    ],
)
def test_nginx_appends_to_forwarded_headers_only_where_the_application_can_tell(
    proxies: str, expected: dict[str, str], render: Render
) -> None:
    """The application reads them from the right, and trusts the same proxies as nginx."""
    variables = {"TRUSTED_PROXIES": proxies}
    site = render("nginx/site.conf", **variables)
    sent = dict(re.findall(r"proxy_set_header (Forwarded|X-Forwarded-\w+) (.+);", site))
    assert sent == {"Forwarded": '""'} | {f"X-Forwarded-{key}": expected[key] for key in expected}
    # Every location inherits the headers, because none sets its own.
    assert not re.search(r"^ {8}proxy_set_header", site, re.MULTILINE)
    trusted = "unix,10.0.0.0/8" if proxies else "unix"
    for server in ("gunicorn", "pool"):
        text = render("supervisord/supervisord.conf", **variables, APP_SERVER=server)
        assert f'TRUSTED_PROXIES="{trusted}"' in text
    assert f"=TRUSTED_PROXIES={trusted} " in render("systemd/app.service", **variables)


def test_each_file_of_deploy_is_named_by_the_readme_or_another_file(installed: Project) -> None:
    """A file that nothing names is unused."""
    deploy = installed.path / "deploy"
    files = [path for path in deploy.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    others = {path: path.read_text() for path in [*files, installed.path / "Makefile"]}
    for path in set(files) - {deploy / "README.md"}:
        text = "".join(text for other, text in others.items() if other != path)
        # Some names are composed: error.html from a kind, pool.conf from APP_SERVER.
        composed = {"error.html", "error.json", "pool.conf", "gunicorn.conf"}
        assert path.name in text or path.name in composed, path
    assert "nginx/error.$1" in others[deploy / "nginx/site.conf"]
    main = others[deploy / "supervisord/supervisord.conf"]
    assert '"supervisord/" ~ app_server ~ ".conf"' in main


def test_no_script_reads_a_setting_by_itself(installed: Project) -> None:
    """Scripts query the project, which also reads .env and knows the defaults."""
    names = re.findall(
        r"^([A-Z_]+)=", (installed.path / ".env.example").read_text(), flags=re.MULTILINE
    )
    assert "RUN_FOLDER" in names
    deploy = installed.path / "deploy"
    scripts = [installed.path / "Makefile", *deploy.glob("*.sh"), *(deploy / "docker").iterdir()]
    read = {
        (path.name, name)
        for path in scripts
        for name in re.findall(rf"\$[({{]?({'|'.join(names)})\b", path.read_text())
    }
    # Compose passes it through env_file only, because the image has no .env.
    assert read == {("compose.yaml", "TRUSTED_PROXIES")}
