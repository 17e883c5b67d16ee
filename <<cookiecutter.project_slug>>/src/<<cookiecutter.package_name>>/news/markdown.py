"""Markdown to HTML that can do no harm.

These functions take a tenth of a second for a long text; handlers call them in a thread.
"""

from html import escape
from itertools import pairwise
from typing import Final

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from .drafts import NO_TEXT

MAX_STEPS: Final = 20_000
"""Steps of the parser. A long text with much markup takes half of them; some other 500,000."""

# Without references, by which a short text becomes a very long one.
_PARSER: Final = MarkdownIt("commonmark", {"html": False}).disable("reference")
_CLEANER: Final = nh3.Cleaner(url_schemes={"http", "https", "mailto", "tel"})
_SUMMARY: Final = 240
"""Characters of a summary."""


class _TooManyStepsError(Exception):
    """The text would take longer than any that a person writes."""


def _count(state: StateBlock | StateInline) -> bool:
    state.env["steps"] += 1
    if state.env["steps"] > MAX_STEPS:
        raise _TooManyStepsError
    return False


def _block_step(state: StateBlock, _start: int, _end: int, _silent: bool) -> bool:
    return _count(state)


def _inline_step(state: StateInline, _silent: bool) -> bool:
    return _count(state)


# Rules that match nothing, and are asked wherever others are.
_PARSER.block.ruler.before(
    "code", "steps", _block_step, {"alt": ["paragraph", "blockquote", "list"]}
)
_PARSER.inline.ruler.before("text", "steps", _inline_step)


def _parse(text: str) -> list[Token]:
    return _PARSER.parse(text, {"steps": 0})


def to_html(text: str) -> str:
    """Return the HTML of Markdown (CommonMark less references); its headings are below the page's.

    Text that would take more than MAX_STEPS is shown as it is written.
    """
    try:
        tokens = _parse(text)
    except _TooManyStepsError:
        return f"<pre>{escape(text)}</pre>"
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    html = _CLEANER.clean(_PARSER.renderer.render(tokens, _PARSER.options, {}))
    return NO_TEXT.sub("\ufffd", html)  # that came as an entity


def summary(text: str) -> str:
    """Return how Markdown begins, as plain text; empty if that is not a paragraph soon."""
    tokens = _parse(text[: 4 * _SUMMARY])
    for opening, token in pairwise(tokens):
        if opening.type == "paragraph_open":
            parts = (" " if "break" in t.type else t.content for t in token.children or ())
            plain = " ".join("".join(parts).split())
            return plain if len(plain) <= _SUMMARY else f"{plain[:_SUMMARY].rstrip()}…"
    return ""
