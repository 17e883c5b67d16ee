import asyncio
import subprocess
from pathlib import Path

import pytest

from ..helpers import GUNICORN, TIMEOUT, json_lines, running, session, until


async def ask(path: Path, handler: str) -> bytes:
    """Return the response of a handler in hanging.py."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"GET /{handler} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    response = await reader.read()
    writer.close()
    return response


def test_gunicorn_exits_with_one_message_if_settings_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SECRET_KEYS")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    done = subprocess.run(GUNICORN, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    first, *lines = done.stderr.splitlines()
    assert first == "Cannot start, the settings are wrong:"
    assert sorted(line.split(":")[0] for line in lines) == ["  LOG_LEVEL", "  SECRET_KEYS"]


async def test_worker_that_hangs_is_killed_and_one_line_has_its_stack(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    command = [*GUNICORN, "tests.deploy.hanging:make_runner"]
    environment = {"BIND": f"unix:{path}", "WEB_CONCURRENCY": "2", "WORKER_TIMEOUT": "2"}
    root = str(Path(__file__).parent.parent.parent)
    with running(command, path, PYTHONPATH=root, **environment) as server:
        first = asyncio.create_task(ask(path, "sleep"))
        await until((tmp_path / "sleeping").exists)
        assert await ask(path, "lock") == b""  # from the other worker
        assert await first == b""
        async with session(path) as client, client.get("/livez") as response:
            assert response.status == 200  # from the new worker
        server.terminate()
        output, errors = server.communicate()
    assert errors == ""
    assert "Task was destroyed" not in output
    hung = [line for line in json_lines(output) if "stack" in line]
    places = [line["event"].rpartition(" in ")[2] for line in hung]
    assert sorted(places) == ["lock", "sleep"]
    for line in hung:
        assert line["level"] == "critical"
        assert "/tests/deploy/hanging.py" in line["event"]
        assert "guard_middleware" in line["stack"]
