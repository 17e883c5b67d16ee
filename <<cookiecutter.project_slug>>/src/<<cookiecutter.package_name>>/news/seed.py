"""Example news: ``python -m << cookiecutter.package_name >>.news.seed``.

Existing items are not changed.
"""

import asyncio
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from ..database import Database
from ..settings import Settings, load_settings
from . import store
from .drafts import Draft, make_slug
from .models import Item

EXAMPLES: Final = {
    "We are open": """\
From today on this site has news. Each piece has a page of its own, and **you need not reload** the
list: what is published while you look at it appears by itself.

# How they are written

In [Markdown](https://commonmark.org/help/), in the admin or by a program:

```sh
curl https://<< cookiecutter.domain_name >>/api/news -H "Authorization: Bearer $TOKEN" \\
    --json '{"title": "Hello", "body": "It *works*."}'
```

That makes a draft; with a `published_at` everybody sees it at once.
""",
    "Zażółć gęślą jaźń": """\
A Polish sentence that needs every letter which the alphabet has beyond the Latin one. It is here
because titles and addresses may be written in **any script**:

- Polish, as in this title;
- Japanese and Arabic, in two further ones;
- the name of the month, should you wish so: *październik*.

> An address ought to be readable by those who read the page.
""",
    "東京からのお知らせ": """\
日本語の見出しも、そのまま URL になります。

1. 見出しを書く
2. 本文を書く
3. 公開する

コードも `print("こんにちは")` のように書けます。
""",
    "مرحبا بالعالم": """\
تُعرض العناوين والنصوص من اليمين إلى اليسار عندما تُكتب بالعربية.

> الاتجاه يحدده النص نفسه.

- عنوان
- نص
- تاريخ
""",
    "Read us in your feed reader": """\
The news are a feed, too: give your reader the address of [their list](/news), and it finds the
feed by itself.

# One address, three forms

- `text/html` is what you are looking at;
- `application/json` is for programs;
- `application/atom+xml` is for feed readers.

Which one is sent depends on the header `Accept`:

    curl -H "Accept: application/json" https://<< cookiecutter.domain_name >>/news
""",
    "What comes next": """\
Nothing has to stay as it is. To begin with:

1. change the [home page](/), which is `templates/index.html`;
2. write a piece of news of your own;
3. delete this one.

## And if you need no news

The package `news` can be taken out: the README says how.

---

*Thank you for reading.*
""",
}
"""Bodies by title, the latest first."""
_PAUSE: Final = timedelta(hours=31)


def _drafts(count: int) -> list[Draft]:
    """Return the examples and ``count`` numbered items, one for every 31 hours."""
    texts = EXAMPLES | {f"Number {i}": "One of *many*." for i in range(1, count + 1)}
    now = datetime.now(UTC)
    return [
        Draft(title=title, slug=make_slug(title), body=body, published_at=now - i * _PAUSE)
        for i, (title, body) in enumerate(texts.items())
    ]


async def seed(settings: Settings, count: int = 0) -> list[str]:
    """Save the missing examples and return their titles. Raises SystemExit on database errors."""
    database = Database(settings)
    try:
        await database.check()
        async with database.writing() as session:
            there = set(await session.scalars(select(Item.slug)))
            missing = [draft for draft in _drafts(count) if draft.slug not in there]
            for draft in missing:
                await store.save(session, draft)
    except (DBAPIError, OSError, web.HTTPServiceUnavailable) as error:
        reason = str(error).partition("\n")[0]
        raise SystemExit(
            f"Cannot seed the database (did you run `make migrate`?): {reason}"
        ) from None
    finally:
        await database.engine.dispose()
    return [draft.title for draft in missing]


def main() -> None:
    """Fill the database in the settings. Raises SystemExit if that fails."""
    parser = ArgumentParser(description="Write example news, those that are missing.")
    parser.add_argument("--count", type=int, default=0, help="that many numbered ones besides")
    titles = asyncio.run(seed(load_settings(), parser.parse_args().count))
    for title in titles[: len(EXAMPLES)]:
        print(f"  {title}")
    print(f"{len(titles)} written.")


if __name__ == "__main__":
    main()
