import subprocess

import pytest

from ..helpers import GUNICORN, TIMEOUT


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
