import asyncio
import time

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.news.drafts import LONGEST_BODY
from package_name.news.markdown import summary, to_html

from ..helpers import Client
from .helpers import create, read


# % endfilter
def test_markdown_becomes_html() -> None:
    text = """\
# One

*a* **b** `c & d` <https://example.com>

###### Six

1. > quoted
2. ![an image](/static/favicon.svg "and its title")

```python
x < 1
```
"""
    assert (
        to_html(text)
        == """\
<h2>One</h2>
<p><em>a</em> <strong>b</strong> <code>c &amp; d</code> \
<a href="https://example.com" rel="noopener noreferrer">https://example.com</a></p>
<h6>Six</h6>
<ol>
<li>
<blockquote>
<p>quoted</p>
</blockquote>
</li>
<li><img src="/static/favicon.svg" alt="an image" title="and its title"></li>
</ol>
<pre><code>x &lt; 1
</code></pre>
"""
    )


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("", ""),
        ("```\ncode\n```", ""),
        ("# Title\n\nA *b*, `c`:\n[d](e) ![f](g)  \n<i>h</i>\n\nNext.", "A b, c: d f <i>h</i>"),
        ("- item", "item"),
        ("word " * 100, "word " * 47 + "word…"),
        ("x" * 50_000, "x" * 240 + "…"),
    ],
)
def test_a_summary_is_how_it_begins(text: str, begins: str) -> None:
    assert summary(text) == begins


@pytest.mark.parametrize(
    "piece", ["[", "![", "](", "*a", "_a*", "`", "# a\n", "- a\n  - b\n", "a\n"]
)
def test_no_text_takes_long(piece: str) -> None:
    text = "> " * 100 * (piece == "a\n") + piece * LONGEST_BODY
    started = time.process_time()
    to_html(text[:LONGEST_BODY])
    assert time.process_time() - started < 30  # quadratic time would be minutes


async def test_the_loop_is_free_meanwhile(client: Client) -> None:
    for i in range(2):
        await create(client, body=f"{i}" + "![" * 24_000)
    waits = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - before)

    watching = asyncio.create_task(watch())
    started = time.perf_counter()
    await asyncio.gather(read(client, "/news.atom", "application/atom+xml"), read(client, "/news"))
    took = time.perf_counter() - started
    watching.cancel()
    assert max(waits) < took / 3
