from html import escape

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.news.drafts import LONGEST_BODY
from package_name.news.markdown import summary, to_html


# % endfilter
def test_markdown_is_rendered_to_html() -> None:
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
def test_summary_is_the_beginning_as_plain_text(text: str, begins: str) -> None:
    assert summary(text) == begins


def test_html_is_at_most_20_times_as_long() -> None:
    references = f"[a]: {'x' * 20_000}\n\n" + "[a]" * 9000
    autolinks = "<a:b>" * (LONGEST_BODY // 5)
    for text in (references, autolinks, "&" * 19_000, "&" * LONGEST_BODY, "* " * LONGEST_BODY):
        assert len(to_html(text[:LONGEST_BODY])) < 20 * LONGEST_BODY


@pytest.mark.parametrize(
    "unit", [*("![", "[", "*a ", "_*", "- a\n", "a\n=\n", "&"), ">" * 20 + "a\n" * 1000]
)
def test_text_that_takes_too_many_steps_is_shown_as_it_is_written(unit: str) -> None:
    text = (unit * LONGEST_BODY)[:LONGEST_BODY]
    assert to_html(text) == f"<pre>{escape(text)}</pre>"
    assert isinstance(summary(text), str)


def test_long_text_with_much_markup_is_rendered() -> None:
    text = "An *ordinary* paragraph of [text](https://example.com).\n\n" * 870
    assert LONGEST_BODY - 1000 < len(text) < LONGEST_BODY
    assert to_html(text).count("<em>") == 870


def test_entities_that_are_invalid_in_xml_are_replaced() -> None:
    assert to_html('a &#12; [b](c "&#x0c;")').count("\ufffd") == 2
