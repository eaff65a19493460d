"""Sans-I/O reader of upstream's line stream: feed bytes, take events.

    wire = Wire()
    for data in reads:
        batch = wire.feed(data)     # every event that this read completed, in order
    batch = wire.feed_eof()         # what the end of the transport means

However the bytes are cut, the events say the same, and exactly one terminal event (`Finish` or `Failure`) comes,
as the last. What follows it is counted and ignored. Nothing here raises: what is wrong with a stream is an event.
What is unknown is skipped, and counted by kind (`unknown`).

Source: docs/protocol.md, "The answer: a line stream".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import orjson

from upstream.protocol.drift import MAX_KINDS_PER_ANSWER, Kinds
from upstream.protocol.errors import ProtocolViolated, Truncated
from upstream.protocol.events import Event, Failure, Finish, ReasoningDeltas, TextDeltas
from upstream.protocol.held import Held
from upstream.protocol.line_values import MAX_LENIENT_CHARS, READERS, loads, model_failed, read_explanation
from upstream.protocol.surrogates import well_formed

#: One line never holds more: the largest seen are picture and citation lists of some 100 KB. Bounds a stream's memory.
MAX_LINE_BYTES = 8 * 1024 * 1024

#: A longer block is a long line and what came with its end: it is read once only.
_MAX_RUN_BYTES: Final = 256 * 1024

#: Some deployments write this before every line.
_PREFIX = b"data: "

_Deltas: TypeAlias = type[TextDeltas] | type[ReasoningDeltas]

#: Tags whose value is a JSON string: a delta of text or of reasoning.
_DELTA_TAGS: dict[bytes, _Deltas] = {b"a0": TextDeltas, b"ag": ReasoningDeltas}

#: The tag of each kind.
_TAGS: Final = {deltas: tag for tag, deltas in _DELTA_TAGS.items()}

#: How a line with such a delta begins, when nothing stands before its tag.
_DELTA_STARTS: dict[bytes, _Deltas] = {tag + b':"': deltas for tag, deltas in _DELTA_TAGS.items()}

#: What stands behind a line without being part of it.
_BLANKS: Final = b"\r \t"

#: A text delta that is this word and nothing else says that the model failed.
_FAILED: Final = "hasArenaError"

#: Step bookkeeping that may say why an answer has no content.
_EXPLAINING_TAG: Final = b"ae"

#: Step and tool bookkeeping, known and harmless; other tags are skipped too, but counted.
_SKIPPED_TAGS = frozenset({b"af", b"a8", b"a9", b"aa", b"ab"})

#: All tags of which something is known.
_KNOWN_TAGS: Final = frozenset({*_DELTA_TAGS, *READERS, *_SKIPPED_TAGS, _EXPLAINING_TAG})


class Wire:
    """Reads one answer. Not for reuse; `close` it in the end, where it shares `held` with others."""

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES, held: Held | None = None) -> None:
        self._max_line_bytes = max_line_bytes
        self._share = (held or Held()).share()  # of what the open lines of all answers may hold
        self._open_line = bytearray()  # a line whose end has not come; grows in place: no quadratic joins
        self._held: dict[_Deltas, str] = {}  # a high surrogate at the end of a delta waits for its other half
        #: The answer is over: its terminal event has been read.
        self.ended = False
        self._at_eof = False
        self._dropping = False  # the rest of an overlong line, up to its newline
        self._unknown = Kinds(MAX_KINDS_PER_ANSWER)
        #: What bookkeeping says of an answer without content: upstream's own words, '' if there are none.
        self.explanation = ""

    @property
    def unknown(self) -> Mapping[str, int]:
        """What was skipped, by kind (`upstream.protocol.drift`): unknown lines and items, and lines after the end."""
        return self._unknown.counts

    @property
    def open_bytes(self) -> int:
        """How much has come of a line whose end has not."""
        return len(self._open_line)

    def feed(self, data: bytes) -> list[Event]:
        """Take what one read brought; return the events it completed."""
        if not self._open_line and not self._held and not self.ended:
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
        """Take the end of the transport: a last line may lack its newline; an answer without an end is a failure."""
        self._at_eof = True
        events = self._read_block(self._take_open_line())
        return events if self.ended else events + self._end(_truncation())

    def close(self) -> None:
        """Let go of what is held: no more will be fed."""
        self._take_open_line()

    def _take_open_line(self) -> bytes:
        """Take what has come of a line; it is no longer held."""
        line = bytes(self._open_line)
        self._open_line.clear()
        self._share.set(0)
        return line

    def _check_open_line(self) -> list[Event]:
        size = len(self._open_line)
        if size <= self._max_line_bytes and self._share.set(size):
            return []
        self._take_open_line()
        self._dropping = True
        if size <= self._max_line_bytes and not self.ended:
            return self._end(_violation("LMArena sent too many long lines at once."))
        return self._read_overlong()

    def _read_block(self, block: bytes) -> list[Event]:
        """Read whole lines, joined by newlines: all at once if they are deltas of one kind, as nearly always."""
        if not self.ended and not self._held and len(block) <= min(self._max_line_bytes, _MAX_RUN_BYTES):
            deltas = _read_uniform_block(block)
            if deltas is not None:
                return [deltas]
            before, _, last = block.rpartition(b"\n")
            deltas = _read_uniform_block(before)  # an answer's end comes with its last deltas
            if deltas is not None:
                return [deltas, *self._read_lines([last])]
        return self._read_lines(block.split(b"\n"))

    def _read_lines(self, lines: list[bytes]) -> list[Event]:
        """Read lines of all kinds: deltas of one kind that follow each other at once, the others one by one."""
        events: list[Event] = []
        kind: _Deltas | None = None
        run: list[bytes] = []  # the strings of deltas of that kind
        late = 0
        unknown: dict[bytes, int] = {}  # by tag, b"" for none
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
                unknown[b""] = unknown.get(b"", 0) + 1
            elif content[:2] in _KNOWN_TAGS:
                events += self._read_value(content[:2], content[3:])
            else:
                unknown[content[:2]] = unknown.get(content[:2], 0) + 1
        if kind is not None:
            events += self._read_deltas(kind, run)
        self._skip("late line", late)
        for tag, times in unknown.items():
            self._skip(_unknown_tag(tag), times)
        return events

    def _read_deltas(self, kind: _Deltas, strings: list[bytes]) -> list[Event]:
        """Read deltas of one kind that follow each other, by their strings."""
        if kind not in self._held:
            if (run := _read_strings(kind, b"\n".join(strings), len(strings))) is not None:
                return [run]
            if len(strings) == 1 and len(strings[0]) > MAX_LENIENT_CHARS:
                return self._unreadable()  # as `loads` would find, slowly
        events: list[Event] = []
        for string in strings:
            events += self._skip("late line") if self.ended else self._read_value(_TAGS[kind], string)
        return events

    def _read_value(self, tag: bytes, value: bytes) -> list[Event]:
        """Read a line's value, by its tag."""
        if tag == _EXPLAINING_TAG:
            self.explanation = read_explanation(value) or self.explanation
            return []
        try:
            if deltas := _DELTA_TAGS.get(tag):
                return self._read_hard_delta(deltas, value)
            if read := READERS.get(tag):
                event, unknown = read(loads(value))
                for kind in unknown:
                    self._skip(kind)
                if isinstance(event, Finish | Failure):
                    return self._end(event)
                return [event] if event else []
        except ValueError:
            return self._unreadable()
        return [] if tag in _SKIPPED_TAGS else self._skip(_unknown_tag(tag))

    def _unreadable(self) -> list[Event]:
        """End the answer at broken JSON; in a last line without its newline, it is the transport that broke."""
        return self._end(_truncation() if self._at_eof else _violation("LMArena sent a line that cannot be read."))

    def _skip(self, kind: str, times: int = 1) -> list[Event]:
        """Count what is unknown, or too late: it says nothing."""
        if times:
            self._unknown.add(kind, times)
        return []

    def _read_hard_delta(self, deltas: _Deltas, value: bytes) -> list[Event]:
        """Read a delta that is alone on its line, whatever its JSON. Raises ValueError if it is no string."""
        text = loads(value)
        if not isinstance(text, str):
            raise ValueError("a delta that is no string")
        if text == _FAILED and deltas is TextDeltas:
            return self._end(Failure(model_failed()))
        text = self._held.pop(deltas, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._held[deltas] = text[-1]
            text = text[:-1]
        text = well_formed(text)
        return [deltas(text, orjson.dumps(text))]

    def _end(self, last: Finish | Failure) -> list[Event]:
        """End the answer; halves of a character still held can no longer be made whole."""
        self.ended = True
        halves: list[Event] = [deltas("\ufffd", b'"\xef\xbf\xbd"') for deltas in self._held]
        self._held.clear()
        return [*halves, last]

    def _read_overlong(self) -> list[Event]:
        if self.ended:
            return self._skip("late line")
        return self._end(_violation(f"LMArena sent a line of more than {self._max_line_bytes} bytes."))


def _read_delta(data: bytes) -> TextDeltas | ReasoningDeltas | None:
    """Read what most reads bring: one line, a well-formed delta; None if it is anything else.

    A stream's pace costs one call of this a delta, so it looks at as little as it can (bench/DECISIONS.md).
    """
    deltas = _DELTA_STARTS.get(data[:4])
    if deltas is None or data.find(b'"\n') != len(data) - 2:
        return None
    string = data[3:-1]
    try:
        text = orjson.loads(string)  # between two quotes JSON has nothing but a string
    except orjson.JSONDecodeError:
        return None
    return None if text == _FAILED and deltas is TextDeltas else deltas(text, string)


def _read_uniform_block(block: bytes) -> TextDeltas | ReasoningDeltas | None:
    """Read a block whose lines are all well-formed deltas of one kind; None if it is anything else.

    This is the fast path of a stream, which looks at no line by itself: one `loads` checks and decodes the JSON strings
    of all of them. `Wire._read_lines` reads any block; bench/DECISIONS.md says what it would cost alone.
    """
    start = len(_PREFIX) if block.startswith(_PREFIX) else 0
    deltas = _DELTA_TAGS.get(block[start : start + 2])
    if deltas is None:
        return None
    if block[start + 2 : start + 4] != b':"' or block[-1:] != b'"':
        return None
    strings = block[start + 3 :]
    head = block[: start + 3]
    further = strings.count(b"\n")
    if strings.count(b'"\n' + head + b'"') != further:
        return None
    return _read_strings(deltas, strings.replace(b"\n" + head, b"\n"), further + 1)


def _read_strings(deltas: _Deltas, strings: bytes, count: int) -> TextDeltas | ReasoningDeltas | None:
    """Read `count` deltas of one kind by their strings, a line each; None if one of them is no well-formed string."""
    try:
        # The newlines stay in: no JSON string may hold one, so none can reach over the end of its line.
        texts = orjson.loads(b"[" + strings.replace(b"\n", b",\n") + b"]")
        text = "".join(texts)
    except (orjson.JSONDecodeError, TypeError):  # TypeError: a list or an object reaches over lines
        return None
    if len(texts) != count:  # a line held more than its one string
        return None
    if deltas is TextDeltas and _FAILED in text and _FAILED in texts:  # the search in `texts` is dear, and rarely made
        return None
    return deltas(text, strings)


def _unknown_tag(tag: bytes) -> str:
    return "no tag" if not tag else f"tag {tag.decode('ascii', 'replace')}"


def _violation(message: str) -> Failure:
    return Failure(ProtocolViolated(message))


def _truncation() -> Failure:
    return Failure(Truncated("LMArena's answer broke off before its end."))
