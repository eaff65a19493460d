"""Extracts models and action ids from the site's pages, scripts and server-action answers.

Source: docs/protocol.md, "Models" and "Server actions and uploads".

Flight is React's wire format: rows `<hex>:<value>`. A page spreads them over `self.__next_f.push([1,"…"])` calls; a
server action's answer (`text/x-component`) has them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from itertools import chain, islice
from json import JSONDecoder
from typing import Final, NamedTuple

import orjson

from upstream.protocol.errors import ProtocolViolated
from upstream.protocol.models import MAX_ENTRIES, ModelList, read_entries

_JSON = JSONDecoder()  # not orjson: only `raw_decode` can parse a value in the middle of a text
_PUSH = re.compile(r'self\.__next_f\.push\(\[1,\s*(?=")')
# The quotes are escaped in a push that was cut short, whose flight data cannot be parsed.
_MODELS = re.compile(r'\\?"initialModels\\?"\s*:\s*(?P<absent>\\?"\$undefined\\?"|null\b)?')
# The text before a script's name, and the name itself: of bounded length, to bound the work on a page.
_FOLDER: Final = "static/chunks/"
_BEFORE_SCRIPT = re.compile(r"(?:/_next/|(?:^|[^\w/.%-])(?:_next/|/)?)\Z")
_SCRIPT = re.compile(r"""static/chunks/[^\s"'\\<>?]{1,500}\.js(?:\?[^\s"'\\<>]{0,500})?""")
_ACTION = re.compile(r"""createServerReference\)?\(\s*"([0-9a-f]{40,42})"[^()"]*"([\w$]+)"\s*\)""")
_ROW = re.compile(rb"\n*([0-9a-f]*):(?:T([0-9a-f]+),)?")

#: How many places of a page are searched for the list of models.
_MAX_PLACES: Final = 50
#: The longest entry of that list (typically 600 characters). They are parsed one by one, so that the thread yields.
MAX_ENTRY_CHARS: Final = 32 * 1024
_BLANKS: Final = re.compile(r"[ \t\r\n]*")
#: How many pushes without a valid string end the search: the library's error for each counts the lines before it,
#: which takes time.
_MAX_BROKEN_PUSHES: Final = 20
#: The maximum number of scripts of a page (the site's has some 100), and of places searched for them.
MAX_SCRIPTS: Final = 300
_MAX_SCRIPT_PLACES: Final = 5000
#: The maximum number of rows in a server action's answer: the site's has some 200.
MAX_ROWS: Final = 10_000


class FlightError(ProtocolViolated):
    """A page or answer lacks the expected content."""


class Page(NamedTuple):
    """A parsed page of the site: its HTML without the strings that it pushes, and those strings joined.

    A server action's answer can be parsed as a page, too.
    """

    html: str
    flight: str

    @classmethod
    def parse(cls, text: str) -> Page:
        """Parse a page. The pushed strings may be split anywhere, and the page may be truncated."""
        html: list[str] = []
        flight: list[str] = []
        position = broken = 0
        while broken < _MAX_BROKEN_PUSHES and (push := _PUSH.search(text, position)):
            html.append(text[position : push.end()])
            try:
                pushed, position = _JSON.raw_decode(text, push.end())
            except ValueError:  # the page is truncated
                position = push.end()
                broken += 1
            else:
                flight.append(pushed)
        return cls("".join(html) + text[position:], "".join(flight))

    def models(self) -> ModelList | None:
        """Parse the models; None if the page has no list of them.

        A page without models has `$undefined` in place of the list, or no such key. Raises FlightError if there is a
        list that cannot be parsed.
        """
        found = list(islice(chain(_lists(self.flight), _lists(self.html)), _MAX_PLACES))
        lists = [read_entries(entries) for entries in found if entries is not None]
        if lists:
            # Raw text on the page may contain the same key: the site's own list is the one that has models.
            return next((each for each in lists if each.models), lists[0])
        if found:
            raise FlightError("the page contains no list of models that can be parsed")
        return None

    def script_paths(self) -> tuple[str, ...]:
        """The distinct paths, including queries, of the JavaScript files that the page names, in order.

        A page may omit the `/_next/` of a path, which is added here. A file named both with and without a query is
        returned with it.
        """
        names = islice(chain(_script_names(self.html), _script_names(self.flight)), MAX_SCRIPTS)
        paths = dict.fromkeys(f"/_next/{unescape(name)}" for name in names)
        with_query = {file for file, question_mark, _ in (path.partition("?") for path in paths) if question_mark}
        return tuple(path for path in paths if path not in with_query)


def action_ids(script: str) -> dict[str, str]:
    """The ids of the server actions in a script, by name. They change with every deployment of the site."""
    return {name: action_id for action_id, name in _ACTION.findall(script)}


def action_result(body: bytes) -> object:
    """The value of row `1:`, a server action's result. Raises FlightError if the answer has none."""
    position = rows = 0
    while (header := _ROW.match(body, position)) and rows < MAX_ROWS:
        rows += 1
        row, text_bytes = header.groups()
        start = header.end()
        if text_bytes:  # raw text of that many bytes, without a newline: it may look like rows itself
            position = start + int(text_bytes, 16)
        else:
            line_end = body.find(b"\n", start)
            position = len(body) if line_end < 0 else line_end + 1
        if row == b"1" and position <= len(body):
            value = body[start:position]
            return value.decode(errors="replace") if text_bytes else _result(value)
    raise FlightError("the answer contains no result, or was cut off before it")


def _result(value: bytes) -> object:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise FlightError("the action failed" if value.startswith(b"E") else "the result is not JSON") from error


def _lists(text: str) -> Iterator[list[object] | None]:
    """Yield the value of each `initialModels` in a text: the list, or None if it cannot be parsed."""
    position = 0
    while key := _MODELS.search(text, position):
        position = key.end()
        if key["absent"] is not None:
            continue
        entries: list[object] | None = None
        if text.startswith("[", position):
            entries, position = _entries(text, position + 1)
        yield entries


def _entries(text: str, position: int) -> tuple[list[object] | None, int]:
    """Parse the entries of a JSON list from `position`; None if invalid. Also return the position after them."""
    entries: list[object] = []
    position = _after_blanks(text, position)
    if text.startswith("]", position):
        return entries, position + 1
    while len(entries) < MAX_ENTRIES:
        try:
            entry, length = _JSON.raw_decode(text[position : position + MAX_ENTRY_CHARS])
        except (ValueError, RecursionError):
            return None, position
        entries.append(entry)
        position = _after_blanks(text, position + length)
        if text.startswith("]", position):
            break
        if not text.startswith(",", position):
            return None, position
        position = _after_blanks(text, position + 1)
    return entries, position


def _after_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


def _script_names(text: str) -> Iterator[str]:
    """Yield the names of scripts in a text, beginning with `static/chunks/`."""
    position = 0
    for _ in range(_MAX_SCRIPT_PLACES):
        position = text.find(_FOLDER, position)
        if position < 0:
            return
        # Not one pattern for both, which would be tried at each character of the page.
        before = _BEFORE_SCRIPT.search(text[max(0, position - 8) : position])
        found = _SCRIPT.match(text, position) if before else None
        if found:
            yield found[0]
        position = found.end() if found else position + len(_FOLDER)
