"""Markdown on a terminal: splitting a growing answer into blocks that no longer change, and rendering them."""

from __future__ import annotations

import re
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment

from upstream.protocol.printable import readable

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_PARSER: Final = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def settled(text: str) -> int:
    """Return how many characters of an answer belong to blocks that further text cannot change: all but the last block.

    An unfinished line may still become part of any kind of block.
    """
    whole = text[: text.rfind("\n") + 1]
    begun = [token.map[0] for token in _PARSER.parse(whole) if token.level == 0 and token.map and token.nesting >= 0]
    ends = [0, *(found.end() for found in _LINE_END.finditer(whole))]
    return ends[begun[-1]] if begun else 0


def looks(text: str) -> Readable:
    """A text in Markdown as rich shows it: raw HTML as text, line breaks as they are, links with their addresses."""
    tokens = _PARSER.parse(readable(text))
    for token in tokens:
        for child in token.children or ():
            _adapt(child)
    shown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
    shown.parsed = tokens
    return Readable(shown)


def _adapt(token: Token) -> None:
    if token.type == "softbreak":
        token.type = "hardbreak"
    elif token.type == "image":  # rich would omit the address
        address = str(token.attrs.get("src", ""))
        token.content = f"[{token.content or 'picture'}] {'' if address.startswith('data:') else address}".rstrip()
        token.type, token.tag, token.children = "text", "", None


class Readable:
    """A rich renderable, without empty lines around it or control characters, which an HTML entity can produce."""

    def __init__(self, shown: Markdown) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._shown, options.update(height=None), pad=False)
        written = [place for place, line in enumerate(lines) if any(segment.text.strip() for segment in line)]
        for line in lines[written[0] : written[-1] + 1] if written else ():
            yield from (Segment(readable(segment.text), segment.style) for segment in line)
            yield Segment.line()
