"""Fixtures: production logging, and a feed with a short publishing interval."""

import io
from math import inf

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin.logs import feed
from package_name.web import lag


# % endfilter
@pytest.fixture(autouse=True)
def output(json_log: io.BytesIO, monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Log as in production, without event-loop lag warnings; return the output."""
    monkeypatch.setattr(feed, "INTERVAL", 0.02)
    monkeypatch.setattr(lag, "HIGH", inf)
    return json_log
