from datetime import UTC, datetime

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.news.models import Item
from package_name.news.store import Cursor


# % endfilter
@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=UTC),
    ],
)
def test_cursor_is_the_same_after_parsing(moment: datetime) -> None:
    cursor = Cursor.of(Item(published_at=moment, id=5))
    assert Cursor.parse(str(cursor)) == cursor == (moment, 5)
