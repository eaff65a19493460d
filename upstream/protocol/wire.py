"""Sans-I/O parser of upstream's line stream: takes bytes, returns events.

    wire = Wire()
    for data in reads:
        batch = wire.feed(data)     # all events that this read completed, in order
    batch = wire.feed_eof()         # the events for the end of the transport

The events do not depend on how the bytes are split into reads, and the last one is the only terminal event (`Finish` or
`Failure`). What follows it is counted and ignored. Nothing here raises: errors of the stream are events. Unknown lines
and items are skipped, and counted by kind (`unknown`).

Source: docs/protocol.md, "The answer: a line stream".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import orjson

from upstream.protocol.drift import MAX_KEPT_BYTES, MAX_KINDS_PER_ANSWER, MAX_LINES, KindCounter
from upstream.protocol.errors import ProtocolViolated, Truncated
from upstream.protocol.events import Event, Failure, Finish, ReasoningDeltas, TextDeltas
from upstream.protocol.line_values import MAX_LENIENT_CHARS, READERS, loads, model_failed, read_explanation
from upstream.protocol.memory_budget import MemoryBudget
from upstream.protocol.surrogates import well_formed

#: The longest line, which bounds a stream's memory: the longest seen are picture and citation lists of some 100 KB.
MAX_LINE_BYTES = 8 * 1024 * 1024

#: A longer block contains a long line, and is not parsed on the fast path first.
_MAX_RUN_BYTES: Final = 256 * 1024

#: Some deployments write this before every line.
_PREFIX = b"data: "

_Deltas: TypeAlias = type[TextDeltas] | type[ReasoningDeltas]

#: Tags whose value is a JSON string: a delta of text or of reasoning.
_DELTA_TAGS: dict[bytes, _Deltas] = {b"a0": TextDeltas, b"ag": ReasoningDeltas}

#: The tag of each kind of delta.
_TAGS: Final = {deltas: tag for tag, deltas in _DELTA_TAGS.items()}

#: The start of a line with such a delta, without a prefix.
_DELTA_STARTS: dict[bytes, _Deltas] = {tag + b':"': deltas for tag, deltas in _DELTA_TAGS.items()}

#: Characters that are stripped from the end of a line.
_BLANKS: Final = b"\r \t"

#: A text delta that consists of this word means that the model failed.
FAILED_TEXT: Final = "hasArenaError"

#: Step bookkeeping that may explain why an answer has no content.
_EXPLAINING_TAG: Final = b"ae"

#: Step and tool bookkeeping, known and harmless; other tags are skipped too, but counted.
_SKIPPED_TAGS = frozenset({b"af", b"a8", b"a9", b"aa", b"ab"})

#: All known tags.
_KNOWN_TAGS: Final = frozenset({*_DELTA_TAGS, *READERS, *_SKIPPED_TAGS, _EXPLAINING_TAG})


class Wire:
    """Parses one answer. Call `close` at the end, to release its share of `memory_budget`."""

    #: Upstream's own explanation of an answer without content, from bookkeeping lines; '' if there is none.
    explanation = ""
    _at_eof = False
    _dropping = False  # skips the rest of an overlong line, up to its newline

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES, memory_budget: MemoryBudget | None = None) -> None:
        self._max_line_bytes = max_line_bytes
        self._memory = (memory_budget or MemoryBudget()).share()  # for the unfinished line
        self._open_line = bytearray()  # the unfinished line; grows in place, which avoids quadratic time
        self._half_pairs: dict[_Deltas, str] = {}  # high surrogates at the ends of deltas, until their pairs arrive
        #: Whether the terminal event has been returned.
        self.ended = False
        self._unknown = KindCounter(MAX_KINDS_PER_ANSWER)
        #: The first lines with something unknown, for a recording of it; at most `MAX_LINES`, each truncated.
        self.unknown_lines: list[bytes] = []

    @property
    def unknown(self) -> Mapping[str, int]:
        """Counts of what was skipped, by kind (`upstream.protocol.drift`): unknown lines and items, late lines."""
        return self._unknown.counts

    @property
    def open_bytes(self) -> int:
        """The size of the unfinished line."""
        return len(self._open_line)

    def feed(self, data: bytes) -> list[Event]:
        """Parse the bytes of one read; return the events that it completed."""
        if not self._open_line and not self._half_pairs and not self.ended:
            delta = _read_delta(data)
            if delta is not None and len(data) <= self._max_line_bytes:
                return [delta]
        if self._dropping:
            _, newline, data = data.partition(b"\n")
            self._dropping = not newline
        end = data.rfind(b"\n")
        if end < 0:
            self._open_line += data
            return self._check_open_line()
        block = data[:end]
        if self._open_line:
            block = self._take_open_line() + block
        events = self._read_block(block)
        if rest := data[end + 1 :]:
            self._open_line += rest
            events += self._check_open_line()
        return events

    def feed_eof(self) -> list[Event]:
        """Handle the end of the transport: the last line may lack a newline; without a finish, it is a failure."""
        self._at_eof = True
        events = self._read_block(self._take_open_line())
        return events if self.ended else events + self._end(_truncation())

    def close(self) -> None:
        """Release the buffer; `feed` must not be called any more."""
        if self._open_line:
            self._take_open_line()

    def _take_open_line(self) -> bytes:
        """Return the unfinished line and empty its buffer."""
        line = bytes(self._open_line)
        self._open_line.clear()
        self._memory.set(0)
        return line

    def _check_open_line(self) -> list[Event]:
        size = len(self._open_line)
        if size <= self._max_line_bytes and self._memory.set(size):
            return []
        self._take_open_line()
        self._dropping = True
        if size <= self._max_line_bytes and not self.ended:
            return self._end(_violation("LMArena sent too many long lines at once."))
        return self._read_overlong()

    def _read_block(self, block: bytes) -> list[Event]:
        """Parse complete lines, joined by newlines: at once if they are deltas of one kind, the usual case."""
        if not self.ended and not self._half_pairs and len(block) <= min(self._max_line_bytes, _MAX_RUN_BYTES):
            deltas = _read_uniform_block(block)
            if deltas is not None:
                return [deltas]
            before, _, last = block.rpartition(b"\n")
            deltas = _read_uniform_block(before)  # the finish often arrives with the last deltas
            if deltas is not None:
                return [deltas, *self._read_lines([last])]
        return self._read_lines(block.split(b"\n"))

    def _read_lines(self, lines: list[bytes]) -> list[Event]:
        """Parse lines of any kind: consecutive deltas of one kind together, the others one by one."""
        events: list[Event] = []
        kind: _Deltas | None = None
        run: list[bytes] = []  # the strings of consecutive deltas of that kind
        late = 0
        unknown: dict[bytes, int] = {}  # counts by tag, b"" for a line without one
        for line in lines:
            content = line.removeprefix(_PREFIX).rstrip(_BLANKS)
            overlong = len(line) > self._max_line_bytes
            if not content and not overlong:
                continue
            deltas = None if overlong else _DELTA_STARTS.get(content[:4])
            if kind is not None and deltas is not kind:
                events += self._read_deltas(kind, run)
                kind, run = None, []
            if self.ended:
                late += 1
            elif deltas is not None:
                kind = deltas
                run.append(content[3:])
            elif overlong:
                events += self._read_overlong()
            elif content[2:3] != b":":
                self._keep_unknown(content)
                unknown[b""] = unknown.get(b"", 0) + 1
            elif content[:2] in _KNOWN_TAGS:
                events += self._read_value(content[:2], content[3:])
            else:
                self._keep_unknown(content)
                unknown[content[:2]] = unknown.get(content[:2], 0) + 1
        if kind is not None:
            events += self._read_deltas(kind, run)
        self._skip("late line", late)
        for tag, times in unknown.items():
            self._skip(_unknown_tag(tag), times)
        return events

    def _read_deltas(self, kind: _Deltas, strings: list[bytes]) -> list[Event]:
        """Parse the strings of consecutive deltas of one kind."""
        if kind not in self._half_pairs:
            if (run := _read_strings(kind, b"\n".join(strings), len(strings))) is not None:
                return [run]
            if len(strings) == 1 and len(strings[0]) > MAX_LENIENT_CHARS:
                return self._unreadable()  # `loads` would find the same, but slowly
        events: list[Event] = []
        for string in strings:
            events += self._skip("late line") if self.ended else self._read_value(_TAGS[kind], string)
        return events

    def _read_value(self, tag: bytes, value: bytes) -> list[Event]:
        """Parse a line's value according to its tag."""
        if tag == _EXPLAINING_TAG:
            self.explanation = read_explanation(value) or self.explanation
            return []
        try:
            if deltas := _DELTA_TAGS.get(tag):
                return self._read_irregular_delta(deltas, value)
            if read := READERS.get(tag):
                event, unknown = read(loads(value))
                for kind in unknown:
                    self._skip(kind)
                if unknown:
                    self._keep_unknown(tag + b":" + value)
                if isinstance(event, Finish | Failure):
                    return self._end(event)
                return [event] if event else []
        except ValueError:
            return self._unreadable()
        return [] if tag in _SKIPPED_TAGS else self._skip(_unknown_tag(tag))

    def _unreadable(self) -> list[Event]:
        """End the answer at broken JSON; in a last line without a newline, it counts as a broken transport."""
        return self._end(_truncation() if self._at_eof else _violation("LMArena sent a line that cannot be read."))

    def _keep_unknown(self, line: bytes) -> None:
        if len(self.unknown_lines) < MAX_LINES:
            self.unknown_lines.append(line[:MAX_KEPT_BYTES])

    def _skip(self, kind: str, times: int = 1) -> list[Event]:
        """Count something unknown or late; it makes no events."""
        if times:
            self._unknown.add(kind, times)
        return []

    def _read_irregular_delta(self, deltas: _Deltas, value: bytes) -> list[Event]:
        """Parse a single delta without assumptions about its JSON. Raises ValueError if it is not a string."""
        text = loads(value)
        if not isinstance(text, str):
            raise ValueError("the delta is not a string")
        if text == FAILED_TEXT and deltas is TextDeltas:
            return self._end(Failure(model_failed()))
        text = self._half_pairs.pop(deltas, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._half_pairs[deltas] = text[-1]
            text = text[:-1]
        text = well_formed(text)
        return [deltas(text, orjson.dumps(text))]

    def _end(self, last: Finish | Failure) -> list[Event]:
        """End the answer; incomplete surrogate pairs become U+FFFD."""
        self.ended = True
        halves: list[Event] = [deltas("\ufffd", b'"\xef\xbf\xbd"') for deltas in self._half_pairs]
        self._half_pairs.clear()
        return [*halves, last]

    def _read_overlong(self) -> list[Event]:
        if self.ended:
            return self._skip("late line")
        return self._end(_violation(f"LMArena sent a line of more than {self._max_line_bytes} bytes."))


def _read_delta(data: bytes) -> TextDeltas | ReasoningDeltas | None:
    """Parse the usual content of a read: one line with a well-formed delta; None for anything else.

    This is called once for each delta of a stream, so it checks as little as possible (bench/DECISIONS.md).
    """
    deltas = _DELTA_STARTS.get(data[:4])
    if deltas is None or data.find(b'"\n') != len(data) - 2:
        return None
    string = data[3:-1]
    try:
        text = orjson.loads(string)  # between two quotes, JSON can only be a string
    except orjson.JSONDecodeError:
        return None
    return None if text == FAILED_TEXT and deltas is TextDeltas else deltas(text, string)


def _read_uniform_block(block: bytes) -> TextDeltas | ReasoningDeltas | None:
    """Parse a block whose lines are all well-formed deltas of one kind; None for anything else.

    This is the fast path of a stream: a single `loads` checks and decodes the JSON strings of all lines.
    `Wire._read_lines` parses any block; bench/DECISIONS.md has the cost of using it alone.
    """
    if block[-1:] != b'"':
        return None
    start = len(_PREFIX) if block.startswith(_PREFIX) else 0
    deltas = _DELTA_STARTS.get(block[start : start + 4])
    if deltas is None:
        return None
    strings = block[start + 3 :]
    head = block[: start + 3]
    further = strings.count(b"\n")
    if strings.count(b'"\n' + head + b'"') != further:
        return None
    return _read_strings(deltas, strings.replace(b"\n" + head, b"\n"), further + 1)


def _read_strings(deltas: _Deltas, strings: bytes, count: int) -> TextDeltas | ReasoningDeltas | None:
    """Parse `count` deltas of one kind from their strings, one a line; None if one of them is not well-formed."""
    try:
        # The newlines stay in: a JSON string cannot contain one, so no string extends beyond its line.
        texts = orjson.loads(b"[" + strings.replace(b"\n", b",\n") + b"]")
        text = "".join(texts)
    except (orjson.JSONDecodeError, TypeError):  # TypeError: a list or an object spans several lines
        return None
    if len(texts) != count:  # a line had more than one string
        return None
    if (
        deltas is TextDeltas and FAILED_TEXT in text and FAILED_TEXT in texts
    ):  # searching `texts` is slow, but rarely needed
        return None
    return deltas(text, strings)


def _unknown_tag(tag: bytes) -> str:
    return "no tag" if not tag else f"tag {tag.decode('ascii', 'replace')}"


def _violation(message: str) -> Failure:
    return Failure(ProtocolViolated(message))


def _truncation() -> Failure:
    return Failure(Truncated("LMArena's answer broke off before its end."))
