import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from ..helpers import TIMEOUT, children, running, session, until

SERVE = [sys.executable, str(Path(__file__).parent.parent.parent / "deploy/serve.py")]


def configure(text: str) -> None:
    Path(".env").write_text(text)


async def reload(control: Path) -> subprocess.CompletedProcess[str]:
    command = [*SERVE, "--reload", str(control)]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


async def test_gunicorn_is_replaced_when_another_one_is_ready(tmp_path: Path) -> None:
    path, control = tmp_path / "app.sock", tmp_path / "serve.sock"
    command = [*SERVE, str(control)]
    with running(command, path, BIND=f"unix:{path}", WEB_CONCURRENCY="1") as server:
        async with session(path) as client:
            async with client.get("/livez") as response:
                assert response.status == 200
            (first,) = children(server.pid)
            done = await reload(control)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("all workers (1) are ready after ")
            await until(lambda: first not in children(server.pid))
            (second,) = children(server.pid)
            # One that cannot start changes nothing.
            configure("LOG_LEVEL=LOUD\n")
            done = await reload(control)
            assert done.returncode == 1
            assert "LOG_LEVEL: " in done.stderr
            assert children(server.pid) == [second]
            configure("")
            # One that ends by itself is replaced; its socket stays.
            os.kill(second, signal.SIGKILL)
            await until(lambda: set(children(server.pid)) - {second})
            async with client.get("/livez") as response:
                assert response.status == 200
        server.terminate()
        output, errors = await asyncio.to_thread(server.communicate, timeout=TIMEOUT)
    assert server.returncode == 0, output + errors
    assert not path.exists()
    assert not control.exists()


async def test_it_ends_if_gunicorn_cannot_start(tmp_path: Path) -> None:
    configure("LOG_LEVEL=LOUD\n")
    done = await asyncio.to_thread(
        subprocess.run, [*SERVE, "serve.sock"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Cannot start, the settings are wrong:\n  LOG_LEVEL: ")
    done = await reload(tmp_path / "serve.sock")
    assert done.returncode == 1
    assert done.stderr.startswith("serve.py does not run: ")
