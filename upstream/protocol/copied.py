"""A request that developer tools copied as a command → its headers, one a line, as `name: value`.

The request's body is left out: a prompt may hold anything. Every pattern here is linear: what may repeat is possessive,
and what an unmatched quote opens ends with the text, so that no search fails after having read the rest of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

#: The words of a bash command, with its four ways of quoting; an unmatched quote stands for itself.
_SHELL: Final = re.compile(
    r"""(?P<space>(?:\s|\\\r?\n)+)|\$'(?P<ansi>(?:[^'\\]|\\.)*)'|'(?P<single>[^']*)'"""
    r"""|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|(?P<plain>[^\s'"\\$]+|.)""",
    re.DOTALL,
)
_ANSI_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{1,4})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_ANSI_LETTERS: Final = {"n": "\n", "r": "\r", "t": "\t"}
_LINE_END: Final = re.compile(r"[\r\n]+")

#: What stands before a string of PowerShell's, and the string, in which a backtick escapes.
_POWERSHELL: Final = re.compile(r'([^"]*+)(?:"((?:[^"`]|`.)*+)"?)?', re.DOTALL)
_BACKTICK: Final = re.compile(r"`(.)", re.DOTALL)


def curl_headers(command: str) -> Iterator[str]:
    """The headers of a cURL command, in the form for bash or for the Windows prompt."""
    if '^"' in command:  # the form for the Windows prompt escapes with carets
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
    """The headers of an `Invoke-WebRequest` command, and what is added to its `WebRequestSession` before it."""
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
    parts: list[str] = []  # of the word that is being read: adding each to a string would take quadratic time
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
    """A header without line ends, which it can only have from the terminal or the editor that it was copied from."""
    return _LINE_END.sub("", header)
