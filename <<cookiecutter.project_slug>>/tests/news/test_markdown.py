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


LINK = "[a](" + "x" * 300


def filled(unit: str, before: str = "", after: str = "", length: int = 10_000) -> str:
    """Return a text of this length that repeats a unit."""
    count = (length - len(before) - len(after)) // len(unit)
    return before + unit * count + after


@pytest.mark.parametrize(
    "text",
    [
        *map(
            filled,
            ("![", "*a ", "_*", "- a\n", "a\n=\n", "&", "a\n\n", "[a](", "\n#\n"),
        ),
        filled("a\n", ">" * 20),
        filled(LINK[:34]),
        filled(LINK),
        *(
            filled(unit, "![" * 18, "](y)" * 18)
            for unit in (LINK, "<a:b>", "\\*", "[a](b)", "`a` ")
        ),
        filled('[a](b "', "[" * 18),
        filled("![", length=LONGEST_BODY),
    ],
    ids=lambda text: text[:40],
)
def test_text_that_takes_too_much_work_is_shown_as_it_is_written(text: str) -> None:
    assert to_html(text) == f"<pre>{escape(text)}</pre>"
    assert isinstance(summary(text), str)


def test_beginning_that_takes_too_much_work_has_no_summary() -> None:
    assert summary("![" * 18 + "[a](" * 210) == ""


def test_hosts_of_links_are_encoded_without_idna() -> None:
    text = "[a](http://m\xfcnchen.example/%C3%BC?%41%zz) <http://m\xfcnchen.example>"
    html = to_html(text)
    assert 'href="http://m%C3%BCnchen.example/%C3%BC?%41%25zz"' in html
    assert ">http://m\xfcnchen.example</a>" in html


def test_long_text_with_much_markup_is_rendered() -> None:
    text = "An *ordinary* paragraph of [text](https://example.com).\n\n" * 870
    assert LONGEST_BODY - 1000 < len(text) < LONGEST_BODY
    assert to_html(text).count("<em>") == 870
    changes = (
        "- [#1](https://example.com/1) **Mend** `a` by [@b](https://example.com/b), *thanks*!\n"
    )
    assert to_html(changes * 600).count("<strong>") == 600
    assert to_html("- a\n  - b\n    - c\n" * 100).count("<li>") == 300


def test_entities_that_are_invalid_in_xml_are_replaced() -> None:
    assert to_html('a &#12; [b](c "&#x0c;")').count("\ufffd") == 2
