import asyncio
import os
import re
import subprocess
import sys

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.news import seed
from package_name.settings import load_settings

from ..helpers import Client
from .helpers import assert_harmless, create, entries, read

SEED = [sys.executable, "-m", "package_name.news.seed"]


# % endfilter
def run(*arguments: str) -> str:
    done = subprocess.run([*SEED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_examples_are_written_once(client: Client) -> None:
    output = await asyncio.to_thread(run)
    assert output.endswith("\n6 written.\n")
    before = await read(client, "/news")
    assert len(await entries(client)) == 6
    for path in re.findall(r'<h2.*href="([^"]*)"', before):
        assert_harmless(await read(client, path))
    assert await asyncio.to_thread(run) == "0 written.\n"
    assert re.findall("<article>.*</article>", before, re.DOTALL) == re.findall(
        "<article>.*</article>", await read(client, "/news"), re.DOTALL
    )


async def test_what_is_there_stays(client: Client) -> None:
    item = await create(client, "We are open", body="Ours")
    assert await seed.seed(load_settings(), 20) == [
        *list(seed.EXAMPLES)[1:],
        *(f"Number {i}" for i in range(1, 21)),
    ]
    async with client.get(f"/api/news/{item['id']}") as response:
        assert (await response.json())["body"] == "Ours"
    assert len(await entries(client)) == 20


def test_there_has_to_be_a_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", os.environ["DATABASE_URL"] + "x")
    monkeypatch.setattr(sys, "argv", ["seed"])
    with pytest.raises(SystemExit, match="There are no news"):
        seed.main()
    assert capsys.readouterr().out == ""
