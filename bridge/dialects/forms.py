"""Parses forms in `multipart/form-data` (RFC 7578) into texts and files.

The body is searched for its boundary from part to part and not split into lines, so that parsing takes linear time.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: The maximum number of parts; OpenAI's own form has a dozen.
MAX_PARTS: Final = 50
#: The maximum size of a part's headers, which are a name, a file name and a type.
MAX_HEADER_BYTES: Final = 8 * 1024
#: RFC 2046, 5.1.1.
MAX_BOUNDARY_CHARS: Final = 70

#: A parameter of a header: a token, or a quoted string with backslash escapes. The pattern does not backtrack.
_PARAMETER: Final = re.compile(r';\s*([!#-\'*+.\w^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s";]++))\s*+', re.DOTALL)
_HEADER: Final = re.compile(r"([!#-'*+.\w^`|~-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)


class BadForm(ValueError):
    """The bytes are not a form, or one with too many parts."""


class Form(NamedTuple):
    """A form's texts by field name, and its files in order, each with its field name."""

    texts: dict[str, str]
    files: list[tuple[str, bytes]]


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary in a Content-Type; None if there is no valid one."""
    boundary = _parameters(content_type).get("boundary", "")
    usable = 0 < len(boundary) <= MAX_BOUNDARY_CHARS and boundary.isascii() and boundary.isprintable()
    return boundary.encode() if usable else None


def read_form(body: bytes, boundary: bytes) -> Form:
    """Parse a form. Raises BadForm.

    Anything before the first boundary and after the last one is ignored (RFC 2046, 5.1.1). Texts are UTF-8, whatever a
    field `_charset_` says; of two texts with the same name, the last one counts.
    """
    texts: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    line = b"\r\n--" + boundary
    at = len(line) - 2 if body.startswith(line[2:]) else _next_boundary(body, line, 0)[1]
    for _ in range(MAX_PARTS + 1):
        if body.startswith(b"--", at):
            return Form(texts, files)
        head = _end_of_line(body, at)
        end, following = _next_boundary(body, line, head - 2)  # an empty part ends where it begins
        name, is_file, data = _part(body, head, end)
        if is_file:
            files.append((name, data))
        else:
            try:
                texts[name] = data.decode()
            except UnicodeDecodeError:
                raise BadForm("a text is not UTF-8") from None
        at = following
    raise BadForm("it has too many parts")


def _next_boundary(body: bytes, line: bytes, start: int) -> tuple[int, int]:
    """Return where the next boundary begins and ends."""
    found = body.find(line, start)
    if found < 0:
        raise BadForm("its last boundary is missing")
    return found, found + len(line)


def _end_of_line(body: bytes, at: int) -> int:
    """Return where the line after a boundary begins; blanks may follow the boundary."""
    end = body.find(b"\r\n", at, at + MAX_HEADER_BYTES)
    if end < 0 or body[at:end].strip(b" \t"):
        raise BadForm("a boundary is followed by other text in its line")
    return end + 2


def _part(body: bytes, start: int, end: int) -> tuple[str, bool, bytes]:
    """Return a part's name, whether it is a file, and its content."""
    stop = body.find(b"\r\n\r\n", start, min(end, start + MAX_HEADER_BYTES))
    if stop < 0:
        raise BadForm("a part's headers are missing or too long")
    disposition = ""
    for line in body[start:stop].decode(errors="surrogateescape").split("\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BadForm("a part has an invalid header")
        field, value = header[1].lower(), header[2]
        if field == "content-disposition":
            disposition = value
        elif field == "content-type" and value.lower().startswith("multipart/"):
            raise BadForm("a form is nested in it")
    parameters = _parameters(disposition)
    name = parameters.get("name")
    if name is None or not disposition.lower().startswith("form-data"):
        raise BadForm("a part has no name")
    return name, "filename" in parameters or "filename*" in parameters, body[stop + 4 : end]


def _parameters(value: str) -> dict[str, str]:
    """Return a header's parameters, their names in lower case, up to the first malformed one."""
    found: dict[str, str] = {}
    at = value.find(";")
    while at >= 0 and (parameter := _PARAMETER.match(value, at)):
        name, quoted, token = parameter.groups()
        found.setdefault(name.lower(), token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        at = parameter.end()
    return found
