"""Extracts the headers, as lines `name: value`, from a request that developer tools copied as a command.

The request's body is ignored: a prompt may contain anything. All patterns match in linear time: repetitions are
possessive, and an unmatched quote extends to the end of the text, so that no search backtracks over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

#: The words of a bash command with its four ways of quoting; an unmatched quote is a literal character.
_SHELL: Final = re.compile(
    r"""(?P<space>(?:\s|\\\r?\n)+)|\$'(?P<ansi>(?:[^'\\]|\\.)*)'|'(?P<single>[^']*)'"""
    r"""|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|(?P<plain>[^\s'"\\$]+|.)""",
    re.DOTALL,
)
_ANSI_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{1,4})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_ANSI_LETTERS: Final = {"n": "\n", "r": "\r", "t": "\t"}
_LINE_END: Final = re.compile(r"[\r\n]+")

#: The text before a PowerShell string, and the string, in which the backtick is the escape character.
_POWERSHELL: Final = re.compile(r'([^"]*+)(?:"((?:[^"`]|`.)*+)"?)?', re.DOTALL)
_BACKTICK: Final = re.compile(r"`(.)", re.DOTALL)


def curl_headers(command: str) -> Iterator[str]:
    """The headers of a cURL command, in its bash or Windows form."""
    if '^"' in command:  # the Windows form escapes with carets
        command = re.sub(r"\^(.)", r"\1", command, flags=re.DOTALL)
    for option, word in pairwise(_shell_words(command)):
        match option:
            case "-H" | "--header":
                yield _unwrapped(word)
            case "-b" | "--cookie":
                yield f"cookie: {_unwrapped(word)}"
            case "-A" | "--user-agent":
                yield f"user-agent: {_unwrapped(word)}"


def powershell_headers(command: str) -> Iterator[str]:
    """The headers of an `Invoke-WebRequest` command, including those of its `WebRequestSession`."""
    strings = [(lead.strip(), _unescaped(string)) for lead, string in _POWERSHELL.findall(command)]
    for (before, name), (between, value) in pairwise([("", ""), *strings]):
        if before.endswith("Net.Cookie(") and between == ",":
            yield f"cookie: {name}={value}"
        elif between == "=":  # an entry of the table of headers
            yield f"{name}: {value}"
        elif between.rstrip(" =").endswith("UserAgent"):
            yield f"user-agent: {value}"


def _shell_words(command: str) -> list[str]:
    words: list[str] = []
    parts: list[str] = []  # of the current word: string concatenation would take quadratic time
    for part in _SHELL.finditer(command):
        match part.lastgroup:
            case "space":
                words.append("".join(parts))
                parts.clear()
            case "ansi":
                parts.append(_ANSI_ESCAPE.sub(_ansi_character, part["ansi"]))
            case "double":
                parts.append(re.sub(r'\\(["\\$`])', r"\1", part["double"]))
            case _:
                parts.append(part[part.lastindex or 0])
    return [*words, "".join(parts)]


def _ansi_character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else _ANSI_LETTERS.get(escape[3], escape[3])


def _unescaped(string: str) -> str:
    return _unwrapped(_BACKTICK.sub(r"\1", string))


def _unwrapped(header: str) -> str:
    """A header without line breaks, which can only come from the terminal or editor that it was copied from."""
    return _LINE_END.sub("", header)
