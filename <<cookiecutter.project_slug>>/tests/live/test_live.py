import os
import subprocess
from pathlib import Path

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app

from ..helpers import GUNICORN, TIMEOUT

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


@pytest.fixture
def folder_of_others(monkeypatch: pytest.MonkeyPatch) -> str:
    """Create the folder as another user could. Return the error message about it."""
    monkeypatch.setenv("BUS_URL", "local:")
    monkeypatch.setenv("BIND", "unix:server.sock")
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    FOLDER.mkdir(mode=0o777, parents=True)
    if os.geteuid() == 0:
        os.chown(FOLDER, 65534, -1)
        FOLDER.chmod(0o700)
    return f"Cannot start, set BUS_URL: {FOLDER} is not a folder of this user alone, with mode 700"


async def test_application_does_not_start_if_the_folder_was_made_by_others(
    folder_of_others: str,
) -> None:
    runner = web.AppRunner(create_app())
    with pytest.raises(SystemExit, match=f"^{folder_of_others}$"):
        await runner.setup()
    await runner.cleanup()


def test_gunicorn_exits_with_one_sentence_if_the_folder_was_made_by_others(
    folder_of_others: str,
) -> None:
    done = subprocess.run(GUNICORN, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 3
    assert done.stderr == folder_of_others + "\n"
    assert "Traceback" not in done.stdout
