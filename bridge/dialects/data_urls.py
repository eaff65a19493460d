"""Extracts base64 files from a large body before it is parsed: data URLs, and the values of `file_data` and `data`.

orjson would copy each of them, and block the event loop meanwhile. The size of what remains, which is text, is limited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import attrgetter
from typing import Final, TypeAlias

from bridge.dialects import json_text
from bridge.dialects.fields import Fields, read_object
from bridge.errors import CHARS_PER_TOKEN, ApiError, context_exceeded

#: Shorter strings are not extracted, since parsing them is as fast.
MIN_BYTES: Final = 16 * 1024
#: At most this many names are examined: a request has a few files, and 30 MB of `"url":` would block the loop for 1 s.
MAX_NAMES: Final = 1000
#: The maximum size of a body without its files, as a constant and per character of the longest prompt, whichever is
#: larger: parsing 30 MB of text would block the loop for 0.1 s, and take 120 MB if it has a character of four bytes.
MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
MAX_BYTES_PER_CHAR: Final = 8

#: The extracted strings, as bytes exactly as they were sent, by the placeholders that replace them.
Extracted: TypeAlias = Mapping[str, memoryview]

#: The names of values that may be files, by the ends of the names.
_NAMES: Final = {b'url"': (b'"url"', b'"image_url"'), b'data"': (b'"file_data"', b'"data"')}
#: The beginnings of pictures and PDFs in base64, which distinguish them from other strings named `data`.
_FILE_BEGINNINGS: Final = (b"iVBORw0KGgo", b"/9j/", b"\\/9j\\/", b"R0lGOD", b"UklGR", b"JVBERi0")
_DATA_URL_BEGINNINGS: Final = (b"data:", b"DATA:", b"Data:")
_VALUE: Final = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*"')


def read_without_data_urls(
    body: bytes, mark: str, *, longest_prompt: int, min_bytes: int = MIN_BYTES
) -> tuple[Fields, Extracted]:
    """Parse a body that may contain large files; each is replaced by `mark` with a number.

    Files are data URLs named `url`, `image_url` or `data`, and bare base64 named `file_data`, or named `data` if it
    begins like a picture or a PDF.

    `mark` must be unpredictable, and need no escaping in JSON. Control characters and invalid UTF-8 in the extracted
    strings are found only when their base64 is decoded.

    Raises a 400 as `read_object` does, and `context_length_exceeded` if there is far more text than in a prompt of
    `longest_prompt` characters.
    """
    most = max(MAX_TEXT_BYTES, MAX_BYTES_PER_CHAR * longest_prompt)
    rest, extracted, unextracted = _extract(body, mark, min_bytes, most)
    if len(rest) - unextracted > most:
        raise json_text.leading_bytes_error(rest) or context_exceeded(
            f"The request has {len(rest)} bytes besides its files; LMArena accepts a prompt of at most "
            f"{longest_prompt} characters. Shorten or drop earlier messages.",
            len(rest) // CHARS_PER_TOKEN,
            longest_prompt // CHARS_PER_TOKEN,
        )
    try:
        return read_object(rest), extracted
    except ApiError:
        if not extracted:
            raise
        return read_object(body), {}  # so that the error names the place in what was sent


def _extract(body: bytes, mark: str, min_bytes: int, most: int) -> tuple[bytes, Extracted, int]:
    """Separate a body from its large files; the search ends after `most` bytes without one.

    The third value is the size of the files that stay in the body, because they contain backslashes (as PHP escapes
    slashes) or because the last one is cut off.

    In valid JSON, a quoted name followed by a colon is always a key or the end of one, since inside a string its
    quotation marks would be escaped. So the quotation mark after the colon begins a string, which the next one ends
    unless it is escaped.
    """
    view, extracted, kept = memoryview(body), dict[str, memoryview](), list[bytes | memoryview]()
    start = at = unextracted = 0
    ends = [_NameSearch(body, end) for end in _NAMES]
    for _ in range(MAX_NAMES):
        found = min((each for each in ends if each.find(at, at + most)), key=attrgetter("index"), default=None)
        if found is None:
            break
        at = found.index + len(found.end)
        name = next((name for name in _NAMES[found.end] if body.startswith(name, max(0, at - len(name)))), None)
        opened = _VALUE.match(body, at) if name is not None else None
        if opened is None:
            continue
        beginnings = _DATA_URL_BEGINNINGS + (_FILE_BEGINNINGS if name == b'"data"' else ())
        if name != b'"file_data"' and not body.startswith(beginnings, opened.end()):
            continue
        at = body.find(b'"', opened.end())
        if at < 0:
            unextracted += len(body) - opened.end()
            break
        if at - opened.end() < min_bytes:
            continue
        value = view[opened.end() : at]
        if body.find(b"\\", opened.end(), at) < 0:
            placeholder = f"{mark}{len(extracted)}"
            extracted[placeholder] = value
            kept += (view[start : opened.end()], placeholder.encode())
            start = at
        elif bytes(value).isascii():
            unextracted += len(value)
    return b"".join((*kept, view[start:])) if extracted else body, extracted, unextracted


class _NameSearch:
    """Searches for the next occurrence of the end of a name, without searching any byte twice."""

    __slots__ = ("_body", "_searched", "end", "index")

    def __init__(self, body: bytes, end: bytes) -> None:
        self._body = body
        self._searched = 0  # there is none between `index` and here
        self.end = end
        self.index = -1  # where it was found last

    def find(self, start: int, stop: int) -> bool:
        """Find it between two indexes, neither of which may decrease from call to call."""
        if self.index < start:
            self.index = self._body.find(self.end, max(start, self._searched), stop)
            self._searched = stop - len(self.end) if self.index < 0 else self.index
        return self.index >= 0
