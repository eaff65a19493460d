"""Sans-I/O reader of upstream's line stream: feed bytes, take events (PROTOCOL, "The answer: a line stream").

    wire = Wire()
    for data in reads:
        batch = wire.feed(data)     # every event that this read completed, in order
    batch = wire.feed_eof()         # what the end of the transport means

However the bytes are cut, the events say the same, and exactly one terminal event (`Finish` or `Failure`) comes,
as the last. What follows it is counted and ignored. Nothing here raises: what is wrong with a stream is an event.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeAlias

import orjson

from upstream.errors import ModelFailed, ProtocolViolated, Truncated
from upstream.events import Citations, Event, Failure, Finish, Image, Images, ReasoningDeltas, Source, TextDeltas
from upstream.refusals import quotable

#: One line never holds more: the largest seen are picture and citation lists of some 100 KB. Bounds a stream's memory.
MAX_LINE_BYTES = 8 * 1024 * 1024

#: Some deployments write this before every line.
_PREFIX = b"data: "

_Deltas: TypeAlias = type[TextDeltas] | type[ReasoningDeltas]

#: Tags whose value is a JSON string: a delta of text or of reasoning.
_DELTA_TAGS: dict[bytes, _Deltas] = {b"a0": TextDeltas, b"ag": ReasoningDeltas}

#: How a line with such a delta begins, when nothing stands before its tag.
_DELTA_STARTS: dict[bytes, _Deltas] = {tag + b':"': deltas for tag, deltas in _DELTA_TAGS.items()}

#: Step and tool bookkeeping, known and harmless; other tags are skipped too, but counted.
_SKIPPED_TAGS = frozenset({b"ae", b"af", b"a8", b"a9", b"aa", b"ab"})


class Wire:
    """Reads one answer. Not for reuse."""

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._open_line = bytearray()  # a line whose end has not come; grows in place: no quadratic joins
        self._held: dict[_Deltas, str] = {}  # a high surrogate at the end of a delta waits for its other half
        #: The answer is over: its terminal event has been read.
        self.ended = False
        self._at_eof = False
        #: Lines skipped because nothing is known of their tag, or because they are no `tag:` at all, or came too late.
        self.skipped_lines = 0

    def feed(self, data: bytes) -> list[Event]:
        """Take what one read brought; return the events it completed."""
        if not self._open_line and not self._held and not self.ended:
            delta = _read_delta(data)
            if delta is not None and len(data) <= self._max_line_bytes:
                return [delta]
        end = data.rfind(b"\n")
        if end < 0:
            self._open_line += data
            return self._check_open_line()
        block = data[:end]
        if self._open_line:
            block = bytes(self._open_line) + block
            self._open_line.clear()
        events = self._read_block(block)
        if rest := data[end + 1 :]:
            self._open_line += rest
            events += self._check_open_line()
        return events

    def feed_eof(self) -> list[Event]:
        """Take the end of the transport: a last line may lack its newline; an answer without an end is a failure."""
        self._at_eof = True
        events = self._read_block(bytes(self._open_line))
        self._open_line.clear()
        return events if self.ended else events + self._end(_truncation())

    def _check_open_line(self) -> list[Event]:
        if len(self._open_line) <= self._max_line_bytes:
            return []
        self._open_line.clear()
        return [] if self.ended else self._end(self._overlong())

    def _read_block(self, block: bytes) -> list[Event]:
        """Read whole lines, joined by newlines: at once if they are a run of deltas, else by halves until they are."""
        if not self.ended and not self._held and len(block) <= self._max_line_bytes:
            run = _read_run(block)
            if run is not None:
                return [run]
            before, _, last = block.rpartition(b"\n")
            run = _read_run(before)  # an answer's end comes with its last deltas
            if run is not None:
                return [run, *self._read_line(last)]
        middle = block.find(b"\n", len(block) // 2)
        if middle < 0:
            middle = block.rfind(b"\n")
        if middle < 0:
            return self._read_line(block)
        return self._read_block(block[:middle]) + self._read_block(block[middle + 1 :])

    def _read_line(self, line: bytes) -> list[Event]:
        if len(line) > self._max_line_bytes and not self.ended:
            return self._end(self._overlong())
        line = line.removeprefix(_PREFIX).rstrip(b"\r \t")
        if not line:
            return []
        if self.ended or line[2:3] != b":":
            self.skipped_lines += 1
            return []
        tag, value = line[:2], line[3:]
        try:
            if deltas := _DELTA_TAGS.get(tag):
                return [self._read_hard_delta(deltas, value)]
            if read := _READERS.get(tag):
                event = read(_loads(value))
                return self._end(event) if isinstance(event, Finish | Failure) else [event]
        except ValueError:  # broken JSON; in a last line without its newline, it is the transport that broke
            return self._end(_truncation() if self._at_eof else _violation("LMArena sent a line that cannot be read."))
        if tag not in _SKIPPED_TAGS:
            self.skipped_lines += 1
        return []

    def _read_hard_delta(self, deltas: _Deltas, value: bytes) -> Event:
        text = _loads(value)
        if not isinstance(text, str):
            raise ValueError("a delta that is no string")
        text = self._held.pop(deltas, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._held[deltas] = text[-1]
            text = text[:-1]
        text = _join_surrogates(text)
        return deltas(text, orjson.dumps(text))

    def _end(self, last: Finish | Failure) -> list[Event]:
        """End the answer; halves of a character still held can no longer be made whole."""
        self.ended = True
        halves: list[Event] = [deltas("\ufffd", b'"\xef\xbf\xbd"') for deltas in self._held]
        self._held.clear()
        return [*halves, last]

    def _overlong(self) -> Failure:
        return _violation(f"LMArena sent a line of more than {self._max_line_bytes} bytes.")


def _read_delta(data: bytes) -> TextDeltas | ReasoningDeltas | None:
    """Read what most reads bring: one line, a well-formed delta; None if it is anything else."""
    deltas = _DELTA_STARTS.get(data[:4])
    if deltas is None or data.find(b'"\n') != len(data) - 2:
        return None
    string = data[3:-1]
    try:
        return deltas(orjson.loads(string), string)  # between two quotes JSON has nothing but a string
    except orjson.JSONDecodeError:
        return None


def _read_run(block: bytes) -> TextDeltas | ReasoningDeltas | None:
    """Read a block whose lines are all well-formed deltas of one kind; None if it is anything else.

    This is the fast path of a stream: the JSON strings of all lines are checked and decoded by one `loads`.
    """
    start = len(_PREFIX) if block.startswith(_PREFIX) else 0
    deltas = _DELTA_TAGS.get(block[start : start + 2])
    if deltas is None:
        return None
    if block[start + 2 : start + 4] != b':"' or block[-1:] != b'"':
        return None
    strings = block[start + 3 :]
    further = strings.count(b"\n")
    try:
        head = block[: start + 3]
        if strings.count(b'"\n' + head + b'"') != further:
            return None
        strings = strings.replace(b"\n" + head, b"\n")
        # The newlines stay in: no JSON string may hold one, so none can reach over the end of its line.
        texts = orjson.loads(b"[" + strings.replace(b"\n", b",\n") + b"]")
        text = "".join(texts)
    except (orjson.JSONDecodeError, TypeError):  # TypeError: a list or an object reaches over lines
        return None
    return deltas(text, strings) if len(texts) == further + 1 else None  # else a line held more than its one string


def _loads(value: bytes | str) -> object:
    """Parse JSON; where orjson is stricter than the site (lone surrogates, raw CR in a string), as the library does."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        # As text: given bytes, the library would guess an encoding, and take NULs for UTF-16.
        return json.loads(value if isinstance(value, str) else value.decode(), strict=False)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _join_surrogates(text: str) -> str:
    """Make each pair of surrogates one character, and each lone one U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _text(value: object) -> str | None:
    """Take a text from inside a document; None if it is none, or empty."""
    return _join_surrogates(value) if isinstance(value, str) and value else None


def _violation(message: str) -> Failure:
    return Failure(ProtocolViolated(message))


def _truncation() -> Failure:
    return Failure(Truncated("LMArena's answer broke off before its end."))


def _read_images(value: object) -> Images:
    return Images(
        tuple(Image(url, _text(item.get("mimeType"))) for item in _objects(value) if (url := _text(item.get("image"))))
    )


def _read_citations(value: object) -> Citations:
    """`argsTextDelta` is JSON in a string; its `source` is one object or a list of them."""
    sources: list[Source] = []
    for item in _objects(value):
        arguments = item.get("argsTextDelta")
        if isinstance(arguments, str):
            with suppress(ValueError):  # as its name says, it may be a part; the last line has the full list
                for inner in _objects(_loads(arguments)):
                    sources += _read_sources(inner.get("source"))
    return Citations(tuple(sources))


def _read_sources(value: object) -> Iterator[Source]:
    for source in _objects(value):
        if url := _text(source.get("url")):
            places = source.get("charLocation")
            offsets = tuple(place for place in places if _is_offset(place)) if isinstance(places, list) else ()
            yield Source(url, _text(source.get("title")), offsets)


def _is_offset(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53  # JSON's safe integers; True is no number


def _objects(value: object) -> Iterator[dict[str, object]]:
    """Yield an object, or each object of a list."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def _read_finish(value: object) -> Finish | Failure:
    reason = _text(value.get("finishReason")) if isinstance(value, dict) else None
    return Failure(ModelFailed("The model failed.")) if reason == "error" else Finish(reason)


def _read_failure(value: object) -> Failure:
    detail = quotable(value) if isinstance(value, str) else ""
    return Failure(ModelFailed(f"The model failed: {detail}" if detail else "The model failed.", detail=detail))


#: Tags whose value is one JSON document and makes one event. A new kind of line is one row here.
_READERS: dict[bytes, Callable[[object], Event]] = {
    b"a2": _read_images,
    b"ac": _read_citations,
    b"a3": _read_failure,
    b"ad": _read_finish,
}
