"""A database without news, and a token for those who write them."""

import pytest
from sqlalchemy import delete

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app
from package_name.database import DATABASE
from package_name.news.models import Item

from .helpers import TOKEN


# % endfilter
@pytest.fixture(autouse=True)
async def _nothing_there(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKENS", f"another-token-that-is-long-enough-too, {TOKEN}")
    app = create_app()
    async with app[DATABASE].writing() as session:
        await session.execute(delete(Item))
    await app[DATABASE].engine.dispose()
