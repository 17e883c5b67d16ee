"""Markdown to HTML that can do no harm.

These functions can take seconds, for text that was made to; handlers call them in a thread.
"""

from itertools import pairwise
from typing import Final

import nh3
from markdown_it import MarkdownIt

from .drafts import NO_TEXT

# Without references, by which a short text becomes a very long one.
_PARSER: Final = MarkdownIt("commonmark", {"html": False}).disable("reference")
_CLEANER: Final = nh3.Cleaner(url_schemes={"http", "https", "mailto", "tel"})
_SUMMARY: Final = 240
"""Characters of a summary."""


def to_html(text: str) -> str:
    """Return the HTML of Markdown (CommonMark less references); its headings are below the page's."""
    tokens = _PARSER.parse(text)
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    html = _CLEANER.clean(_PARSER.renderer.render(tokens, _PARSER.options, {}))
    return NO_TEXT.sub("\ufffd", html)  # that came as an entity


def summary(text: str) -> str:
    """Return how Markdown begins, as plain text; empty if that is not a paragraph soon."""
    tokens = _PARSER.parse(text[: 4 * _SUMMARY])
    for opening, token in pairwise(tokens):
        if opening.type == "paragraph_open":
            parts = (" " if "break" in t.type else t.content for t in token.children or ())
            plain = " ".join("".join(parts).split())
            return plain if len(plain) <= _SUMMARY else f"{plain[:_SUMMARY].rstrip()}…"
    return ""
