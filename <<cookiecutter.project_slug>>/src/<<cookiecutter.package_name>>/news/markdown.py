"""Conversion of Markdown to safe HTML.

These functions take a tenth of a second for a long text: call them in a thread.
"""

import re
from collections.abc import MutableMapping
from html import escape
from itertools import pairwise
from typing import Any, Final, Self, SupportsIndex
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt
from markdown_it.parser_block import ParserBlock
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from .drafts import NO_TEXT

MAX_WORK: Final = 12
"""Maximum characters that the parser reads per character of text; prose takes 2, much markup 8."""
_LEAST: Final = 100_000
"""Minimum of that limit, for short texts, in characters."""
_FOR_SUMMARY: Final = 25_000
"""Maximum number of characters that the parser reads for a summary."""
_STEP: Final = 20
"""Number of characters that a step of the parser counts as."""
_SUMMARY: Final = 240
"""Maximum number of characters of a summary."""


class _TooMuchWorkError(Exception):
    """Raised if a text takes longer to parse than any text that people write."""


def _count(env: MutableMapping[str, Any], work: int) -> None:
    env["work"] -= work
    if env["work"] < 0:
        raise _TooMuchWorkError


class _Source(str):
    """Text that counts its reads: every loop of the parser reads it."""

    __slots__ = ("env",)
    env: MutableMapping[str, Any]

    def __new__(cls, text: str, env: MutableMapping[str, Any]) -> Self:
        self = super().__new__(cls, text)
        self.env = env
        return self

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        _count(self.env, 1)
        return super().__getitem__(key)


class _Block(ParserBlock):
    def parse(
        self, src: str, md: MarkdownIt, env: MutableMapping[str, Any], outTokens: list[Token]
    ) -> list[Token] | None:
        return super().parse(_Source(src, env), md, env, outTokens)


class _Inline(ParserInline):
    def parse(
        self, src: str, md: MarkdownIt, env: MutableMapping[str, Any], tokens: list[Token]
    ) -> list[Token]:
        _count(env, 2 * _STEP)
        return super().parse(_Source(src, env), md, env, tokens)


def _block_step(state: StateBlock, _start: int, _end: int, _silent: bool) -> bool:
    _count(state.env, _STEP)
    return False


def _inline_step(state: StateInline, _silent: bool) -> bool:
    _count(state.env, _STEP)
    return False


class _Parser(MarkdownIt):
    def __init__(self) -> None:
        super().__init__("zero")
        self.block, self.inline = _Block(), _Inline()
        # Without references, which can expand a short text into a very long one.
        self.configure("commonmark", {"html": False}).disable("reference")
        # Rules that match nothing, but are called wherever other rules are.
        self.block.ruler.before(
            "code", "step", _block_step, {"alt": ["paragraph", "blockquote", "list"]}
        )
        self.inline.ruler.before("text", "step", _inline_step)

    def normalizeLink(self, url: str) -> str:
        """Return a URL in ASCII. IDNA is not used, because it takes quadratic time."""
        encoded = quote(url, safe=";/?:@&=+$,-_.!~*'()#%", errors="replace")
        return re.sub("%(?![0-9A-Fa-f]{2})", "%25", encoded)

    def normalizeLinkText(self, link: str) -> str:
        """Return a URL unchanged."""
        return link


_PARSER: Final = _Parser()
_CLEANER: Final = nh3.Cleaner(url_schemes={"http", "https", "mailto", "tel"})


def _parse(text: str, work: int) -> list[Token]:
    return _PARSER.parse(text, {"work": work})


def to_html(text: str) -> str:
    """Return Markdown (CommonMark without references) as HTML, with headings one level lower.

    Text that takes more than MAX_WORK to parse is shown as plain text.
    """
    try:
        tokens = _parse(text, max(_LEAST, MAX_WORK * len(text)))
    except _TooMuchWorkError:
        return f"<pre>{escape(text)}</pre>"
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    html = _CLEANER.clean(_PARSER.renderer.render(tokens, _PARSER.options, {}))
    return NO_TEXT.sub("\ufffd", html)  # characters written as entities


def summary(text: str) -> str:
    """Return the first paragraph of Markdown as plain text; empty if it does not begin early."""
    try:
        tokens = _parse(text[: 4 * _SUMMARY], _FOR_SUMMARY)
    except _TooMuchWorkError:
        return ""
    for opening, token in pairwise(tokens):
        if opening.type == "paragraph_open":
            parts = (" " if "break" in t.type else t.content for t in token.children or ())
            plain = " ".join("".join(parts).split())
            return plain if len(plain) <= _SUMMARY else f"{plain[:_SUMMARY].rstrip()}…"
    return ""
