"""The forms in which a session can be pasted: headers, curl commands, exported cookies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from session_cookies import (
    CLEARANCE,
    NAME,
    cut,
    named,
)

AGENT = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko; "it\'s") Chrome/142.0.0.0'


def header(value: str, size: int = 3180) -> str:
    """A browser's `Cookie` header with the session, in pieces if it is long, among other cookies."""
    pieces = cut(value, size)
    ours = [(NAME, value)] if len(pieces) == 1 else named(pieces)
    return "; ".join(
        f"{name}={text}" for name, text in [("_ga", "GA1.1"), ("cf_clearance", CLEARANCE), *ours, ("p", "1=2")]
    )


def bash_single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def curl(
    value: str, quoted: Callable[[str], str], *, size: int = 3180, option: str = "-b", newline: str = " \\\n  "
) -> str:
    cookies = header(value, size)
    words = [
        f"curl {quoted('https://arena.example/?mode=direct')}",
        f"-H {quoted('accept: */*')}",
        f"{option} {quoted(cookies if option in ('-b', '--cookie') else f'cookie: {cookies}')}",
        f"-H {quoted(f'User-Agent: {AGENT}')}",
        f"--data-raw {quoted('a prompt: cf_clearance=wrong; user-agent: wrong 你好')}",
    ]
    return newline.join(words)


def export(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"domain": ".arena.example", "value": value, "httpOnly": True, "name": name} for name, value in pairs]
