"""Highlights code as HTML with Pygments, using its language names and a few classes of our own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from html import escape
from typing import Any, Final, TypeAlias

from pygments.lexer import Lexer
from pygments.lexers import get_all_lexers, get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String, Token

#: A token type of Pygments, a tuple that knows its parent in the tree of types.
_Kind: TypeAlias = Any

#: Longer code, or code with a longer line, is not highlighted: some patterns of Pygments scan a line once for each of
#: its characters.
MAX_CHARS: Final = 20_000
MAX_LINE_CHARS: Final = 1_000

#: The languages that are highlighted, by Pygments' first name for each. `ini` and `console`, although common, are
#: missing: they take quadratic time in a line's length, in one match that nothing can interrupt.
_LANGUAGES: Final = frozenset(
    (
        "bash", "c", "cpp", "csharp", "css", "dart", "diff", "docker", "elixir", "go", "graphql", "haskell", "html",
        "java", "javascript", "json", "jsx", "julia", "kotlin", "lua", "make", "nginx", "perl", "php", "powershell",
        "python", "ruby", "rust", "scala", "scss", "sql", "swift", "tex", "toml", "tsx", "typescript", "xml", "yaml",
    )
)  # fmt: skip

#: The class in style.css for each token type. Other tokens are plain.
_CLASSES: Final[dict[_Kind, str]] = {
    Keyword: "k",
    Operator.Word: "k",
    Name.Tag: "k",
    Name.Function: "f",
    Name.Class: "f",
    Name.Decorator: "f",
    Name.Builtin: "f",
    Name.Attribute: "f",
    String: "s",
    Generic.Inserted: "s",
    Number: "n",
    Comment: "c",
    Generic.Deleted: "d",
    Token: "",
}


def highlighted(code: str, language: str, check: Callable[[], None]) -> str:
    """HTML of `code`, which joins to exactly its text; without spans if the language is unknown or the code too large.

    `check` is called for each token, and may raise.
    """
    name = _aliases().get(language.lower())
    if name is None or len(code) > MAX_CHARS or max(map(len, code.split("\n"))) > MAX_LINE_CHARS:
        return escape(code)
    pieces: list[str] = []
    for kind, value in _lexer(name).get_tokens(code):
        check()
        text, css = escape(value), _class_of(kind)
        pieces.append(f'<span class="{css}">{text}</span>' if css and not value.isspace() else text)
    return "".join(pieces)


@cache
def _aliases() -> dict[str, str]:
    """Map the language names that may follow a fence to the name by which Pygments finds the lexer."""
    known = {}
    for _, aliases, *_ in get_all_lexers(plugins=False):
        if aliases and aliases[0] in _LANGUAGES:
            known.update(dict.fromkeys(aliases, aliases[0]))
    return known


@cache
def _lexer(alias: str) -> Lexer:
    return get_lexer_by_name(alias, stripnl=False, ensurenl=False)


@cache
def _class_of(kind: _Kind) -> str:
    while kind not in _CLASSES:
        kind = kind.parent
    return _CLASSES[kind]
