"""Baked files pass the auditors of their formats."""

import json
import subprocess
import sys
from getpass import getuser
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import PRODUCTION, Bake, Project, bake_into, clean_environment
from needs import needs
from test_answers import hostile_answers

ANSWERS = [
    {},
    {"project_slug": "A.b_c-9", "database": "none"},
    hostile_answers(database="postgresql"),
]
"""The answers of three projects, each with another database."""
AUDITS = [
    ("hadolint", "deploy/docker/Dockerfile"),
    ("shellcheck", "--external-sources", "deploy/*.sh", "deploy/*/*.sh"),
    (
        "check-jsonschema",
        "--builtin-schema=vendor.compose-spec",
        "deploy/docker/compose.yaml",
    ),
]


@pytest.fixture(scope="module", params=ANSWERS, ids=["plain", "odd", "hostile"])
def audited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Bake a project with these answers."""
    return bake_into(tmp_path_factory.mktemp("audited") / "deep/out", **request.param)


@pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: audit[0])
def test_auditor_finds_nothing(audit: tuple[str, ...], audited: Project) -> None:
    program, *arguments = audit
    options = [each for each in arguments if each.startswith("--")]
    patterns = [each for each in arguments if not each.startswith("--")]
    files = [path for pattern in patterns for path in sorted(audited.path.glob(pattern))]
    assert len(files) >= len(patterns)
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *options, *files],
        cwd=audited.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs("nginx", "openssl")
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"APP_SERVER": "pool", "TRUSTED_PROXIES": "10.0.0.0/8,unix", "ALLOWED_HOSTS": "*"},
        {"TLS_CERTIFICATE": "certs/localhost.pem", "TLS_KEY": "certs/localhost.key"},
    ],
    ids=["plain", "pool", "tls"],
)
def test_nginx_and_gixy_find_nothing(
    environment: dict[str, str], installed: Project, tmp_path: Path
) -> None:
    installed.make("certs")
    command = [
        str(installed.bin / "python"),
        "deploy/render.py",
        "nginx/nginx.conf",
        "nginx/site.conf",
    ]
    with TemporaryDirectory() as run:  # its path is short enough for a socket address
        variables = PRODUCTION | environment | {"RUN_FOLDER": run, "SERVICE_USER": getuser()}
        variables |= {"NGINX_ACCESS_LOG": str(tmp_path / "log")}
        subprocess.run(
            [*command, run], cwd=installed.path, env=clean_environment(**variables), check=True
        )
        test = ["nginx", "-t", "-e", "stderr", "-c", f"{run}/nginx.conf"]
        done = subprocess.run(test, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "warn" not in done.stderr
        gixy = [str(Path(sys.executable).with_name("gixy")), "--format=json", f"{run}/nginx.conf"]
        done = subprocess.run(gixy, capture_output=True, text=True, check=False)
        found = json.loads(done.stdout)
    assert found == []


@needs("nginx")
def test_nginx_accepts_two_sites_with_the_longest_package_names(
    bake: Bake, installed: Project
) -> None:
    """Check that nginx's variables for a site begin with the name of the package."""
    with TemporaryDirectory() as run:
        for name in ("z" * 40, "y" * 40):
            project = bake(package_name=name)
            variables = PRODUCTION | {"RUN_FOLDER": run, "PYTHONPATH": f"{project.path}/src"}
            variables |= {"SERVICE_USER": getuser(), "NGINX_ACCESS_LOG": "/dev/stderr"}
            variables |= {"ALLOWED_HOSTS": f"{name[0]}.example"}
            for file in ("nginx.conf", "site.conf"):
                text = subprocess.run(
                    [installed.bin / "python", "deploy/render.py", f"nginx/{file}"],
                    cwd=project.path,
                    env=clean_environment(**variables),
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stdout
                with Path(run, file).open("a" if file == "site.conf" else "w") as output:
                    output.write(text)
        test = ["nginx", "-t", "-e", "stderr", "-c", f"{run}/nginx.conf"]
        done = subprocess.run(test, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
