"""The target `make demo`, run in a clean checkout."""

import re
import signal
import subprocess
from pathlib import Path

from conftest import ROOT, answers_at, client, free_port, started


def test_make_demo_serves_the_project_with_news_until_ctrl_c(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    assert "\nPORT ?= 8080\n" in (clone / "Makefile").read_text()
    url = f"http://localhost:{(port := free_port())}"
    command = ["make", "demo", f"PORT={port}"]
    with started(command, tmp_path / "log", answers_at(url), clone) as server:
        assert f"at {url}" in server.output()
        with client() as http:
            assert "My Service" in http.get(url, headers={"Accept": "text/html"}).text
            assert len(http.get(f"{url}/api/news").json()["items"]) > 3
            said = re.search(
                r"^The admin is at (\S+), the name is (\w+), the password (\S+)$",
                server.output(),
                re.M,
            )
            assert said
            assert said[1] == f"{url}/admin/"
            form = {"name": said[2], "password": said[3]}
            http.headers["Origin"] = url
            assert http.post(f"{url}/admin/login", data=form | {"password": "x"}).status_code == 401
            assert http.post(f"{url}/admin/login", data=form).status_code == 303
            assert http.get(said[1]).status_code == 200
        server.stop(signal.SIGINT)
        assert "Traceback" not in server.output()
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True
    )
    assert status.stdout == ""
