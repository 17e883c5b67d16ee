import asyncio
import time

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.news import pages
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


def test_a_short_text_does_not_become_a_very_long_one() -> None:
    references = f"[a]: {'x' * 20_000}\n\n" + "[a]" * 9000
    autolinks = "<a:b>" * (LONGEST_BODY // 5)
    for text in (references, autolinks, "&" * LONGEST_BODY, "* " * LONGEST_BODY):
        assert len(to_html(text[:LONGEST_BODY])) < 20 * LONGEST_BODY


def test_what_xml_cannot_hold_is_replaced() -> None:
    assert to_html('a &#12; [b](c "&#x0c;")').count("\ufffd") == 2


async def test_each_text_is_rendered_once_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def render(text: str) -> str:
        begun.append(text)
        time.sleep(0.05)
        return text.upper()

    monkeypatch.setattr(pages, "_CACHED", 2)
    rendered = pages.Rendered(render)
    impatient = asyncio.create_task(rendered("a"))
    patient = [asyncio.create_task(rendered(text)) for text in "aabb"]
    await asyncio.sleep(0)
    impatient.cancel()
    assert await asyncio.gather(*patient) == [*"AABB"]
    assert sorted(begun) == ["a", "b"]
    assert [await rendered(text) for text in "cba"] == [*"CBA"]  # of three, two are remembered
    assert sorted(begun) == ["a", "a", "b", "c"]


async def test_the_loop_is_free_meanwhile(client: Client) -> None:
    for i in range(2):
        await create(client, body=f"{i}" + "![" * 8000)
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
