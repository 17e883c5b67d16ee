import os
import subprocess
from pathlib import Path

import pytest
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app

from ..helpers import GUNICORN, STANDALONE, TIMEOUT

# % endfilter
FOLDER = Path("run/sockets/bus")


async def test_workers_meet_by_default_in_the_working_directory(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUS_URL", "local:")
    await aiohttp_client(create_app())
    await aiohttp_client(create_app())
    assert len(os.listdir(FOLDER)) == 2  # noqa: PTH208 # pathlib's is not for coroutines
    assert os.stat(FOLDER).st_mode & 0o777 == 0o700  # noqa: PTH116


@pytest.mark.parametrize("server", [STANDALONE, GUNICORN], ids=["standalone", "gunicorn"])
def test_server_exits_with_one_sentence_if_the_folder_was_made_by_others(
    server: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUS_URL", "local:")
    monkeypatch.setenv("BIND", "unix:server.sock")
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    FOLDER.mkdir(mode=0o777, parents=True)
    if os.geteuid() == 0:
        os.chown(FOLDER, 65534, -1)
        FOLDER.chmod(0o700)
    done = subprocess.run(server, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == (1 if server is STANDALONE else 3)
    assert done.stderr == (
        f"Cannot start, set BUS_URL: {FOLDER} is not a folder of this user alone, with mode 700\n"
    )
    assert "Traceback" not in done.stdout
