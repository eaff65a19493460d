"""Forms as `multipart/form-data` carries them (RFC 7578): bytes in, texts and files out.

A body is searched for its boundary, from one part to the next, so that reading takes time in proportion to its size
whatever stands in it: a few searches, no lines.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: Parts of a form; OpenAI's own has a dozen.
MAX_PARTS: Final = 50
#: A part's headers: a name, a file's name and a type.
MAX_HEADER_BYTES: Final = 8 * 1024
#: RFC 2046, 5.1.1.
MAX_BOUNDARY_CHARS: Final = 70

#: A parameter of a header: a token, or a string in quotes with `\` before what it quotes. No two ways lead to a match.
_PARAMETER: Final = re.compile(r';\s*([!#-\'*+.\w^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s";]++))\s*+', re.DOTALL)
_HEADER: Final = re.compile(r"([!#-'*+.\w^`|~-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)


class BadForm(ValueError):
    """The bytes are no form, or one with too many parts."""


class Form(NamedTuple):
    """A form's texts by name, and its files in order, each with its field's name."""

    texts: dict[str, str]
    files: list[tuple[str, bytes]]


def boundary_of(content_type: str) -> bytes | None:
    """Find the boundary in a Content-Type; None without a usable one."""
    boundary = _parameters(content_type).get("boundary", "")
    usable = 0 < len(boundary) <= MAX_BOUNDARY_CHARS and boundary.isascii() and boundary.isprintable()
    return boundary.encode() if usable else None


def read_form(body: bytes, boundary: bytes) -> Form:
    """Read a form. Raises BadForm.

    What stands before the first boundary and behind the last one is ignored (RFC 2046, 5.1.1). Texts are UTF-8
    whatever a field `_charset_` says; of two texts with one name the last counts.
    """
    texts: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    line = b"\r\n--" + boundary
    at = len(line) - 2 if body.startswith(line[2:]) else _behind(body, line, 0)[1]
    for _ in range(MAX_PARTS + 1):
        if body.startswith(b"--", at):
            return Form(texts, files)
        head = _end_of_line(body, at)
        end, following = _behind(body, line, head - 2)  # a part without anything ends where it begins
        name, is_file, data = _part(body, head, end)
        if is_file:
            files.append((name, data))
        else:
            try:
                texts[name] = data.decode()
            except UnicodeDecodeError:
                raise BadForm("a text is no UTF-8") from None
        at = following
    raise BadForm("too many parts")


def _behind(body: bytes, line: bytes, start: int) -> tuple[int, int]:
    """Where the next boundary begins, and where what is behind it does."""
    found = body.find(line, start)
    if found < 0:
        raise BadForm("it is not ended")
    return found, found + len(line)


def _end_of_line(body: bytes, at: int) -> int:
    """Where the line behind a boundary begins. Blanks may stand behind that."""
    end = body.find(b"\r\n", at, at + MAX_HEADER_BYTES)
    if end < 0 or body[at:end].strip(b" \t"):
        raise BadForm("something stands behind a boundary")
    return end + 2


def _part(body: bytes, start: int, end: int) -> tuple[str, bool, bytes]:
    """A part's name, whether it is a file, and its content."""
    stop = body.find(b"\r\n\r\n", start, min(end, start + MAX_HEADER_BYTES))
    if stop < 0:
        raise BadForm("a part has no headers, or too long ones")
    disposition = ""
    for line in body[start:stop].decode(errors="surrogateescape").split("\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BadForm("a header is none")
        field, value = header[1].lower(), header[2]
        if field == "content-disposition":
            disposition = value
        elif field == "content-type" and value.lower().startswith("multipart/"):
            raise BadForm("a form within a form")
    parameters = _parameters(disposition)
    name = parameters.get("name")
    if name is None or not disposition.lower().startswith("form-data"):
        raise BadForm("a part has no name")
    return name, "filename" in parameters or "filename*" in parameters, body[stop + 4 : end]


def _parameters(value: str) -> dict[str, str]:
    """A header's parameters, their names in small letters; what follows something that is none is left out."""
    found: dict[str, str] = {}
    at = value.find(";")
    while at >= 0 and (parameter := _PARAMETER.match(value, at)):
        name, quoted, token = parameter.groups()
        found.setdefault(name.lower(), token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        at = parameter.end()
    return found
