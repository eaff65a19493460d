"""Renders answers of models from Markdown to HTML, with highlighted code, using only the elements named here.

Raw HTML is shown as text. Links may use http, https and mailto. Only pictures in the text itself (data URLs) are shown,
since the pages' Content-Security-Policy blocks others; those become links.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from handlers.dashboard.highlighting import highlighted
from upstream.protocol.printable import readable

#: Text that takes longer to render stays plain.
MAX_SECONDS: Final = 1.0

_LINK: Final = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_PICTURE: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+\Z")
#: An address in the text, without punctuation that belongs to the sentence around it.
_ADDRESS: Final = re.compile(r"""https?://[^\s<>"'`\\^{|}]*[^\s<>"'`\\^{|}.,;:!?)\]*_~]""")
#: The class for each column alignment, which markdown-it writes into `style`; the pages' policy forbids inline styles.
_ALIGNED: Final = {"text-align:right": "number", "text-align:center": "middle"}


class TooSlow(Exception):
    """A text takes longer to render than `MAX_SECONDS`."""


def rendered(text: str, *, seconds: float = MAX_SECONDS) -> str:
    """HTML of a text in Markdown. Raises TooSlow."""
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > end:
            raise TooSlow

    def check_block(_: StateBlock, __: int, ___: int, ____: bool) -> bool:
        check()
        return False

    def check_inline(_: StateInline, __: bool) -> bool:
        check()
        return False

    parser = _Markdown("commonmark", {"html": False, "breaks": True}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])
    parser.block.ruler.before("table", "check", check_block)
    parser.inline.ruler.before("text", "check", check_inline)
    html: str = parser.render(text, {"check": check, "heading": 2, "links": 0})
    return readable(html)  # afterwards, since an entity may have been decoded to a control character


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802 — markdown-it's own name
        """Whether a link or a picture may use this address; otherwise it stays plain text."""
        return bool(_LINK.match(url) or _PICTURE.match(url))


class _Renderer(RendererHTML):
    """Writes tokens as HTML. A method's name is the type of its tokens; other tokens use their element's name.

    `env` has the function `check`, the level of the last heading, and how many links are open.
    """

    def text(self, tokens: Sequence[Token], idx: int, _: Any, env: Any) -> str:
        content = tokens[idx].content
        if env["links"] or "http" not in content:
            return escape(content)
        pieces, end = [], 0
        for found in _ADDRESS.finditer(content):
            pieces += [escape(content[end : found.start()]), _link(found[0], escape(found[0]))]
            end = found.end()
        return "".join((*pieces, escape(content[end:])))

    def heading_open(self, tokens: Sequence[Token], idx: int, _: Any, env: Any) -> str:
        """A heading, below the page's own two levels, and never more than one level below the previous heading."""
        env["heading"] = min(int(tokens[idx].tag[1]) + 2, env["heading"] + 1, 6)
        return f"<h{env['heading']}>"

    def heading_close(self, _: Sequence[Token], __: int, ___: Any, env: Any) -> str:
        return f"</h{env['heading']}>\n"

    def link_open(self, tokens: Sequence[Token], idx: int, _: Any, env: Any) -> str:
        env["links"] += 1
        target = str(tokens[idx].attrs.get("href", ""))
        return _link_start(target) if _LINK.match(target) else "<span>"

    def link_close(self, tokens: Sequence[Token], idx: int, _: Any, env: Any) -> str:
        env["links"] -= 1
        opened = idx - 1
        while tokens[opened].level != tokens[idx].level or tokens[opened].type != "link_open":
            opened -= 1
        return "</a>" if _LINK.match(str(tokens[opened].attrs.get("href", ""))) else "</span>"

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        token = tokens[idx]
        source = str(token.attrs.get("src", ""))
        name = self.renderInlineAsText(token.children, options, env)
        if _PICTURE.match(source):
            return f'<img src="{escape(source)}" alt="{escape(name)}">'
        return escape(name) if env["links"] else _link(source, escape(name) or "picture")

    def fence(self, tokens: Sequence[Token], idx: int, _: Any, env: Any) -> str:
        language = (tokens[idx].info.split() or [""])[0][:32]
        code = tokens[idx].content
        return (
            f'<div class="code"><div class="head"><span class="hint">{escape(language)}</span>'
            '<button type="button" class="quiet" data-copy-code aria-label="Copy the code">Copy</button></div>'
            f'<pre tabindex="0"><code>{highlighted(code, language, env["check"])}</code></pre></div>\n'
        )

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return self.fence(tokens, idx, options, env)

    def table_open(self, _: Sequence[Token], __: int, ___: Any, ____: Any) -> str:
        return '<div class="wide" role="group" aria-label="Table" tabindex="0"><table>\n'

    def table_close(self, _: Sequence[Token], __: int, ___: Any, ____: Any) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], idx: int, _: Any, __: Any) -> str:
        return _cell(tokens[idx])

    td_open = th_open


def _cell(token: Token) -> str:
    css = _ALIGNED.get(str(token.attrs.get("style", "")))
    return f'<{token.tag} class="{css}">' if css else f"<{token.tag}>"


def _link_start(target: str) -> str:
    return f'<a href="{escape(target)}" target="_blank" rel="noopener noreferrer nofollow">'


def _link(target: str, html: str) -> str:
    return f"{_link_start(target)}{html}</a>"
