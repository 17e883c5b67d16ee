import asyncio
import subprocess
import sys
from pathlib import Path

from ..helpers import TIMEOUT

SERVE = [sys.executable, str(Path(__file__).parent.parent.parent / "deploy/serve.py")]


def configure(text: str) -> None:
    Path(".env").write_text(text)


async def reload(control: Path) -> subprocess.CompletedProcess[str]:
    command = [*SERVE, "--reload", str(control)]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


async def test_it_ends_if_gunicorn_cannot_start(tmp_path: Path) -> None:
    configure("LOG_LEVEL=LOUD\n")
    done = await asyncio.to_thread(
        subprocess.run, [*SERVE, "serve.sock"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Cannot start, the settings are wrong:\n  LOG_LEVEL: ")
    done = await reload(tmp_path / "serve.sock")
    assert done.returncode == 1
    assert done.stderr.startswith("serve.py is not running: ")
