"""What tools that know the formats say of the files that are baked: nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Bake
from test_answers import everything_hostile

ANSWERS = [{}, {"project_slug": "A.b_c-9"}, everything_hostile()]
AUDITS = [
    ("hadolint", "deploy/docker/Dockerfile"),
    ("shellcheck", "--external-sources", "deploy/*.sh", "deploy/*/*.sh"),
    (
        "check-jsonschema",
        "--builtin-schema=vendor.compose-spec",
        "deploy/docker/compose.yaml",
    ),
]


@pytest.mark.parametrize("audit", AUDITS, ids=lambda audit: audit[0])
@pytest.mark.parametrize("answers", ANSWERS, ids=["plain", "odd", "hostile"])
def test_an_auditor_finds_nothing(
    audit: tuple[str, ...], answers: dict[str, str], bake: Bake
) -> None:
    project = bake(**answers)
    program, *arguments = audit
    options = [each for each in arguments if each.startswith("--")]
    patterns = [each for each in arguments if not each.startswith("--")]
    files = [path for pattern in patterns for path in sorted(project.path.glob(pattern))]
    assert len(files) >= len(patterns)
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *options, *files],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
