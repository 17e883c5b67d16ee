"""Tests that run the commands of a baked project's documents, or find the tests that do."""

import os
import pty
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import PASSWORD, ROOT, Bake, Project, clean_environment, client, serving, sign_in
from documents import DEPLOY, sections
from needs import needs
from stack import TOKEN

SOURCES = {path.name: path.read_text() for path in (ROOT / "tests").glob("*.py")}
NOT_RUN = {
    "Deployment": "settings",
    "Compose": "test_image.py starts the containers of compose.yaml without Docker's compose",
}
"""Sections of deploy/README.md whose commands are not run as written, with the reasons."""
OF_POSTGRESQL = {"The database": "they change the PostgreSQL of this host"}
"""The same, for projects with PostgreSQL."""
COMMAND = re.compile("(make|curl|sudo) ")
HERE = re.compile("make password |curl ")
"""Commands that the tests of this file run."""


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "none"])
def test_every_command_is_run_by_a_test(database: str, bake: Bake) -> None:
    project = bake(database=database)
    sources = "".join(SOURCES.values())
    for heading in sections(project, DEPLOY):
        excused = NOT_RUN | (OF_POSTGRESQL if database == "postgresql" else {})
        assert heading in excused or f'["{heading}"]' in sources, heading
    commands = [
        line
        for lines in sections(project, "README.md").values()
        for line in lines
        if COMMAND.match(line)
    ]
    assert len(commands) > 5
    for command in commands:
        program, target = command.split()[:2]
        if program == "make":  # by Project.make(), started(), or check() of test_check.py
            run = rf'(make|check)\([^)]*"{target}"|"make", "{target}"|make {target}'
            assert HERE.match(command) or re.search(run, sources), command
        elif program == "sudo":  # these commands create a database in this host's PostgreSQL
            assert database == "postgresql"


@needs("curl")
def test_commands_of_the_readme_upload_a_file_and_publish_news(
    installed: Project, tmp_path: Path, account: str
) -> None:
    documented = sections(installed, "README.md")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-")
    with serving(installed, tmp_path, account, API_TOKENS=TOKEN) as site, client() as http:
        sign_in(http, site.base)
        variables = {"COOKIE": http.cookies["session"], "TOKEN": TOKEN}
        for heading, said in (("Admin", "report.pdf"), ("News", "Tea")):
            (command,) = [line for line in documented[heading] if line.startswith("curl ")]
            subprocess.run(
                ["sh", "-c", command.replace("http://localhost:8080", site.base)],
                cwd=tmp_path,
                env=clean_environment(**variables),
                check=True,
            )
            path = "/admin/files/" if heading == "Admin" else "/admin/news/"
            assert said in http.get(site.base + path).text


def test_make_password_asks_twice_and_prints_a_line_for_env(installed: Project) -> None:
    (command,) = [line for line in sections(installed, "README.md")["Admin"] if "make " in line]
    terminal, child = pty.openpty()
    with subprocess.Popen(
        ["sh", "-c", command],
        cwd=installed.path,
        env=clean_environment(),
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    ) as process:
        os.close(child)
        shown = b""
        for prompt in (b"Password: ", b"The same again: "):
            while not shown.endswith(prompt):
                shown += os.read(terminal, 1024)
            os.write(terminal, f"{PASSWORD}\n".encode())
        with suppress(OSError):  # end of file, on Linux
            while more := os.read(terminal, 1024):
                shown += more
    os.close(terminal)
    assert process.returncode == 0
    assert re.search(rb"^ADMIN_USERS='ada:\$argon2id\$\S+'\r$", shown, re.MULTILINE)
