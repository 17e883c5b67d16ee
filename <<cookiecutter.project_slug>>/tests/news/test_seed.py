import asyncio
import os
import re
import runpy
import sys

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.news import seed
from package_name.settings import load_settings

from ..helpers import Client
from .helpers import assert_harmless, create, entries, read


def run(*arguments: str) -> None:
    """Run the module as ``python -m`` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["seed", *arguments])
        patch.delitem(sys.modules, "package_name.news.seed")
        runpy.run_module("package_name.news.seed", run_name="__main__")


# % endfilter
async def test_examples_are_created_once(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(run)
    assert capsys.readouterr().out.endswith("\n6 written.\n")
    before = await read(client, "/news")
    assert len(await entries(client)) == 6
    for path in re.findall(r'<h2.*href="([^"]*)"', before):
        assert_harmless(await read(client, path))
    await asyncio.to_thread(run)
    assert capsys.readouterr().out == "0 written.\n"
    assert re.findall("<article>.*</article>", before, re.DOTALL) == re.findall(
        "<article>.*</article>", await read(client, "/news"), re.DOTALL
    )


async def test_existing_items_are_not_changed(client: Client) -> None:
    item = await create(client, "We are open", body="Ours")
    assert await seed.seed(load_settings(), 20) == [
        *list(seed.EXAMPLES)[1:],
        *(f"Number {i}" for i in range(1, 21)),
    ]
    async with client.get(f"/api/news/{item['id']}") as response:
        assert (await response.json())["body"] == "Ours"
    assert len(await entries(client)) == 20


def test_database_without_tables_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", os.environ["DATABASE_URL"] + "x")
    monkeypatch.setattr(sys, "argv", ["seed"])
    with pytest.raises(SystemExit, match="Cannot seed the database"):
        seed.main()
    assert capsys.readouterr().out == ""
