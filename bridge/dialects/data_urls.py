"""Files in base64 taken out of a large body before it is parsed: data URLs, and what is named `file_data`.

orjson would copy each of them, and hold the loop meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from bridge.dialects.fields import Fields, read_object
from bridge.errors import ApiError

#: What is taken out is at least so long: below it, parsing is as fast.
LEAST_BYTES: Final = 64 * 1024
#: So many names are looked at: a request has a few files, and 30 MB of `"url":` would hold the loop for a second.
MOST_NAMES: Final = 1000

#: What was taken out, by the words that stand in its place: the bytes of each string, as they were sent.
Taken: TypeAlias = Mapping[str, memoryview]

_NAME: Final = re.compile(rb'"(?:(?:image_)?url|(file_data))"')
_VALUE: Final = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*"')


def read_without_data_urls(body: bytes, mark: str, least: int = LEAST_BYTES) -> tuple[Fields, Taken]:
    """Parse a body that may hold long files; in place of each stands `mark` with a number.

    They are data URLs under the names `url` and `image_url`, and data URLs or bare base64 under the name `file_data`.

    Nobody must be able to guess `mark`, which JSON can hold as it is. What a string must not hold (a control, broken
    UTF-8) is not looked for in them: no base64 has it. Raises a 400 as `read_object` does.
    """
    rest, taken = _take_out(body, mark, least)
    try:
        return read_object(rest), taken
    except ApiError:
        return read_object(body), {}  # so that the error names the place in what was sent


def _take_out(body: bytes, mark: str, least: int) -> tuple[bytes, Taken]:
    """Part a body from its long files.

    In a text of JSON's, either name in quotes, followed by a colon, is the end of a name, wherever it began: within a
    string its quotes would be escaped. So the quote behind the colon opens a string, and the next one ends it, unless
    that is escaped.
    """
    view, taken, kept = memoryview(body), dict[str, memoryview](), list[bytes | memoryview]()
    start = at = 0
    for _ in range(MOST_NAMES):
        name = _NAME.search(body, at)
        if name is None:
            break
        at = name.end()
        opened = _VALUE.match(body, at)
        if opened is None or not (name[1] or body.startswith(b"data:", opened.end())):
            continue
        at = body.find(b'"', opened.end())
        if at < 0:
            break
        if at - opened.end() >= least and body.find(b"\\", opened.end(), at) < 0:
            word = f"{mark}{len(taken)}"
            taken[word] = view[opened.end() : at]
            kept += (view[start : opened.end()], word.encode())
            start = at
    return b"".join((*kept, view[start:])) if taken else body, taken
