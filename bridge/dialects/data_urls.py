"""Files in base64 taken out of a large body before it is parsed: data URLs, and what is named `file_data` or `data`.

orjson would copy each of them, and hold the loop meanwhile. What is left is text, and is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from bridge.dialects import json_text
from bridge.dialects.fields import Fields, read_object
from bridge.errors import CHARS_PER_TOKEN, ApiError, context_exceeded

#: The least length of what is taken out: shorter strings are parsed as fast.
LEAST_BYTES: Final = 16 * 1024
#: So many names are looked at: a request has a few files, and 30 MB of `"url":` would hold the loop for a second.
MOST_NAMES: Final = 1000
#: A body may have so many bytes beside its files, or so many for each character of the longest prompt: a text of 30 MB
#: would hold the loop for a tenth of a second, and take 120 MB where it has a character of four bytes.
MOST_TEXT_BYTES: Final = 4 * 1024 * 1024
MOST_BYTES_OF_CHARACTER: Final = 8

#: What was taken out, by the words that replace it: the bytes of each string, as they were sent.
Taken: TypeAlias = Mapping[str, memoryview]

#: The names, by their ends.
_NAMES: Final = {b'url"': (b'"url"', b'"image_url"'), b'data"': (b'"file_data"', b'"data"')}
#: How pictures and PDFs begin in base64, by which they are told from other strings that are named `data`.
_FILE_BEGINNINGS: Final = (b"iVBORw0KGgo", b"/9j/", b"\\/9j\\/", b"R0lGOD", b"UklGR", b"JVBERi0")
_DATA_URL_BEGINNINGS: Final = (b"data:", b"DATA:", b"Data:")
_VALUE: Final = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*"')


def read_without_data_urls(
    body: bytes, mark: str, *, longest_prompt: int, least: int = LEAST_BYTES
) -> tuple[Fields, Taken]:
    """Parse a body that may hold long files; in place of each stands `mark` with a number.

    They are data URLs under the names `url`, `image_url` and `data`, and bare base64 under the name `file_data`, or
    under the name `data` where it begins as a picture or a PDF does.

    Nobody must be able to guess `mark`, which JSON can hold as it is. What a string must not hold (a control, broken
    UTF-8) is not looked for in them: no base64 has it.

    Raises a 400 as `read_object` does, and `context_length_exceeded` for far more text than a prompt of
    `longest_prompt` characters can have.
    """
    most = max(MOST_TEXT_BYTES, MOST_BYTES_OF_CHARACTER * longest_prompt)
    rest, taken, left = _take_out(body, mark, least, most)
    if len(rest) - left > most:
        raise json_text.not_even_begun(rest) or context_exceeded(
            f"The request has {len(rest)} bytes beside its files; LMArena takes a prompt of {longest_prompt} "
            "characters. Shorten or drop earlier messages.",
            len(rest) // CHARS_PER_TOKEN,
            longest_prompt // CHARS_PER_TOKEN,
        )
    try:
        return read_object(rest), taken
    except ApiError:
        if not taken:
            raise
        return read_object(body), {}  # so that the error names the place in what was sent


def _take_out(body: bytes, mark: str, least: int, most: int) -> tuple[bytes, Taken, int]:
    """Part a body from its long files, but for those behind `most` bytes without one.

    The third value is the size of those that stay, since they are written with backslashes (as PHP writes slashes), or
    since the last one is cut off.

    In a text of JSON's, either name in quotes, followed by a colon, is the end of a name, wherever it began: within a
    string its quotes would be escaped. So the quote behind the colon opens a string, and the next one ends it, unless
    that is escaped.
    """
    view, taken, kept = memoryview(body), dict[str, memoryview](), list[bytes | memoryview]()
    start = at = left = 0
    ends = [_End(body, end) for end in _NAMES]
    for _ in range(MOST_NAMES):
        found = min((each for each in ends if each.find(at, at + most)), key=_End.place_of, default=None)
        if found is None:
            break
        at = found.place + len(found.end)
        name = next((name for name in _NAMES[found.end] if body.startswith(name, max(0, at - len(name)))), None)
        opened = _VALUE.match(body, at) if name is not None else None
        if opened is None:
            continue
        beginnings = _DATA_URL_BEGINNINGS + (_FILE_BEGINNINGS if name == b'"data"' else ())
        if name != b'"file_data"' and not body.startswith(beginnings, opened.end()):
            continue
        at = body.find(b'"', opened.end())
        if at < 0:
            left += len(body) - opened.end()
            break
        if at - opened.end() < least:
            continue
        value = view[opened.end() : at]
        if body.find(b"\\", opened.end(), at) < 0:
            word = f"{mark}{len(taken)}"
            taken[word] = value
            kept += (view[start : opened.end()], word.encode())
            start = at
        elif bytes(value).isascii():
            left += len(value)
    return b"".join((*kept, view[start:])) if taken else body, taken, left


class _End:
    """Where the end of a name is found next; no byte is searched twice."""

    __slots__ = ("_body", "_searched", "end", "place")

    def __init__(self, body: bytes, end: bytes) -> None:
        self._body = body
        self._searched = 0  # up to here there is none behind `place`
        self.end = end
        self.place = -1

    def find(self, start: int, stop: int) -> bool:
        """Find it between two places, of which neither falls from call to call."""
        if self.place < start:
            self.place = self._body.find(self.end, max(start, self._searched), stop)
            self._searched = stop - len(self.end) if self.place < 0 else self.place
        return self.place >= 0

    def place_of(self) -> int:
        """Its place."""
        return self.place
