"""Events do not depend on how an answer is encoded and split into reads; from invalid input no text is invented.

`Wire` is compared with two models: an encoder whose output it must read, and a simple parser of single lines.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from upstream.protocol.errors import ModelFailed, ProtocolViolated, Truncated
from upstream.protocol.events import (
    Citations,
    Event,
    Failure,
    Finish,
    Images,
    ReasoningDeltas,
    Source,
    TextDeltas,
)
from upstream.protocol.refusals import MAX_DETAIL_CHARS
from upstream.protocol.wire import MAX_LINE_BYTES, Wire

Kind: TypeAlias = type[TextDeltas] | type[ReasoningDeltas]
KINDS: dict[bytes, Kind] = {b"a0": TextDeltas, b"ag": ReasoningDeltas}

#: The sizes of the reads of an answer, repeated in a cycle.
read_sizes = st.binary(min_size=1, max_size=4).map(lambda sizes: [size % 40 + 1 for size in sizes])


def cut(data: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(data):
            return
        yield data[start : start + size]
        start += size


def read(reads: Iterable[bytes], max_line_bytes: int = MAX_LINE_BYTES) -> list[Event]:
    """Parse a complete answer; return its events."""
    return read_all(reads, max_line_bytes)[0]


def read_all(
    reads: Iterable[bytes], max_line_bytes: int = MAX_LINE_BYTES
) -> tuple[list[Event], Mapping[str, int], str]:
    """Parse a complete answer and check the invariants. Return its events, unknown kinds and explanation."""
    wire = Wire(max_line_bytes=max_line_bytes)
    events = [event for data in reads for event in wire.feed(data)] + wire.feed_eof()
    assert [isinstance(event, Finish | Failure) for event in events] == [False] * (len(events) - 1) + [True]
    for event in events:
        match event:
            case TextDeltas() | ReasoningDeltas():
                assert "".join(deltas_of([event], type(event))) == event.text
            case Citations() | Images() | Finish():
                orjson.dumps(event)  # fails for lone surrogates, which cannot be passed on
                assert event != Images(())
            case Failure(error=error):
                orjson.dumps(error.detail)
                assert len(error.detail) <= MAX_DETAIL_CHARS
    assert len(wire.unknown) <= 21
    assert all(kind.isascii() and kind.isprintable() and len(kind) <= 30 for kind in wire.unknown)
    assert wire.explanation.isprintable()
    assert len(wire.explanation) <= MAX_DETAIL_CHARS
    return events, wire.unknown, wire.explanation


def deltas_of(events: Iterable[Event], kind: Kind) -> list[str]:
    return [orjson.loads(line) for event in events if isinstance(event, kind) for line in event.json.split(b"\n")]


def told_all(read: tuple[list[Event], Mapping[str, int], str]) -> tuple[list[object], dict[str, int], str]:
    """Normalise everything that `read_all` returns, the events as in `told`."""
    events, unknown, explanation = read
    return told(events), dict(unknown), explanation


def told(events: Iterable[Event]) -> list[object]:
    """Make events independent of reads: join runs of one kind to a list of deltas, and reduce failures to messages."""
    said: list[object] = []
    for kind, run in itertools.groupby(events, type):
        if kind in KINDS.values():
            said.append((kind, deltas_of(run, kind)))
        else:
            said += [(type(e.error), e.error.message, e.error.detail) if isinstance(e, Failure) else e for e in run]
    return said


def whole_characters(text: str) -> str:
    """Join surrogate pairs, and replace lone surrogates by U+FFFD."""
    text = re.sub("[\ud800-\udbff][\udc00-\udfff]", lambda pair: json.loads(json.dumps(pair[0])), text)
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


# The encoder: valid answers of a site.


@dataclass(frozen=True)
class Line:
    """One line of an answer: its bytes, and its meaning: a delta, an event, or something unknown."""

    wire: bytes
    delta: tuple[Kind, str] | None = None
    event: Event | None = None
    unknown: tuple[str, ...] = ()


def ascii_only(text: str) -> bytes:
    return json.dumps(text).encode()


def all_escaped(text: str) -> bytes:
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return b'"' + re.sub("(....)", r"\\u\1", units).encode() + b'"'


def raw(text: str) -> bytes:
    """Escape only quotes, backslashes, newlines and surrogates; write all else as it is, even control characters."""
    escaped = re.sub('["\\\\\n\ud800-\udfff]', lambda char: json.dumps(char[0])[1:-1], text)
    return f'"{escaped}"'.encode()


def delta_line(tag: bytes, text: str, spelt: Any) -> Line:
    return Line(tag + b":" + spelt(text), delta=(KINDS[tag], text))


def item_line(urls: list[str], others: list[str]) -> Line:
    """Write pictures after items of other types, of which only heartbeats are known."""
    items: list[dict[str, str | None]] = [{"type": other} for other in others]
    items += [{"type": "image", "image": url, "mimeType": "image/png"} for url in urls]
    return Line(
        b"a2:" + json.dumps(items).encode(),
        event=Images(tuple(urls)) if urls else None,
        unknown=tuple(f"item {other}" for other in others if other != "heartbeat"),
    )


def citation_line(sources: list[Source]) -> Line:
    """Write one source as an object and several as a list, in JSON within a string."""
    items = [
        {"id": "1", "url": source.url, "title": source.title, "charLocation": source.offsets} for source in sources
    ]
    arguments = json.dumps({"source": items if len(items) > 1 else items[0]}, ensure_ascii=False)
    line = json.dumps({"toolCallId": "citation-source", "argsTextDelta": arguments})
    return Line(b"ac:" + line.encode(), event=Citations(tuple(sources)))


characters = (
    st.sampled_from('ab "\\/\n\r\t\x00\x7f\x85\u2028\u2029é你👋😀,:[]{}\ud83d\ude00\ufffd\ufeff') | st.characters()
)
urls = st.text(min_size=1, max_size=2)
offsets = st.lists(st.integers(0, 10_000), max_size=2).map(tuple)
spellings = st.sampled_from([ascii_only, all_escaped, raw])
deltas = st.builds(delta_line, st.sampled_from([b"a0", b"a0", b"ag"]), st.text(characters, max_size=6), spellings)
items = st.builds(
    item_line,
    st.lists(urls, max_size=2),
    st.lists(st.sampled_from(["heartbeat", "heartbeat", "routed_model", "webdev"]), max_size=2),
)
citations = st.builds(
    citation_line, st.lists(st.builds(Source, urls, st.none() | urls, offsets), min_size=1, max_size=2)
)
noise = st.sampled_from(
    [
        *map(Line, (b"", b" ", b"ae:{}", b"af:{", b'ae:{"message":"a reason"}')),
        *(Line(line, unknown=("no tag",)) for line in (b"no tag", b"a0", b"\xff", b": x")),
        Line(b"ah:{}", unknown=("tag ah",)),
        Line(b'b0:"other"', unknown=("tag b0",)),
        Line(b"\xff\n:", unknown=("no tag", "no tag")),
    ]
)
endings = st.sampled_from(
    [
        Line(b'ad:{"finishReason":"stop"}', event=Finish("stop")),
        Line(b'ad:{"finishReason":"length","usage":{}}', event=Finish("length")),
        Line(b"ad:{}", event=Finish(None)),
        Line(b'ad:{"finishReason":"error"}', event=Failure(ModelFailed("The model failed."))),
        Line(b'a3:"Overloaded"', event=Failure(ModelFailed("The model failed: Overloaded", detail="Overloaded"))),
        Line(b'a3:{"error":{"message":"Busy"}}', event=Failure(ModelFailed("The model failed: Busy", detail="Busy"))),
        *(
            Line(b"a0:" + spelt("hasArenaError"), event=Failure(ModelFailed("The model failed.")))
            for spelt in (ascii_only, all_escaped)
        ),
        Line(b'a0:"', event=Failure(ProtocolViolated("LMArena sent a line that cannot be read."))),
        Line(b"", event=Failure(Truncated("LMArena's answer broke off before its end."))),
    ]
)


@given(
    lines=st.lists(deltas | deltas | items | citations | noise, max_size=5),
    ending=endings,
    late=st.none() | deltas | endings,
    framing=st.sampled_from([(b"", b"\n"), (b"", b"\r\n"), (b"data: ", b"\n"), (b"data: ", b"\n\n")]),
    sizes=read_sizes,
)
def test_written_answers_are_read_back(
    lines: list[Line], ending: Line, late: Line | None, framing: tuple[bytes, bytes], sizes: list[int]
) -> None:
    after = [late] if late and ending.wire else []
    prefix, newline = framing
    wire = b"".join(prefix + line.wire + newline for line in [*lines, ending, *after])
    events, unknown, explanation = read_all([wire])
    for kind in KINDS.values():
        written = [line.delta[1] for line in lines if line.delta and line.delta[0] is kind]
        deltas = deltas_of(events, kind)
        assert "".join(deltas) == whole_characters("".join(written))
        half_left = "\ud800" <= "".join(written)[-1:] <= "\udbff"  # becomes a separate delta at the end
        assert len(deltas) == len(written) + half_left
    others = [event for event in events if type(event) not in KINDS.values()]
    assert told(others) == told(line.event for line in [*lines, ending] if line.event)
    late_lines = ["late line"] if after and after[0].wire else []
    assert unknown == Counter([*(kind for line in lines for kind in line.unknown), *late_lines])
    assert explanation == ("a reason" if any(b"a reason" in line.wire for line in lines) else "")
    assert told_all(read_all(cut(wire, sizes))) == told_all((events, unknown, explanation))


# The reference parser, and invalid input.


def read_plainly(wire: bytes) -> tuple[str, str, type]:
    """Parse with the standard library only: the text, the reasoning, and how the answer ended."""
    said = {b"a0:": "", b"ag:": ""}
    how: type = Truncated
    *closed, opened = wire.split(b"\n")
    for broken, line in [*((ProtocolViolated, line) for line in closed), (Truncated, opened)]:
        tag, value = line.removeprefix(b"data: ")[:3], line.removeprefix(b"data: ")[3:]
        if tag not in (b"a0:", b"ag:", b"a2:", b"ac:", b"a3:", b"ad:"):
            continue
        try:
            document = json.loads(value.decode(), strict=False)
            if tag == b"a0:" and document == "hasArenaError":
                how = ModelFailed
                break
            if tag in said:
                said[tag] += document
            elif tag == b"ac:" and isinstance(document, dict) and isinstance(document.get("argsTextDelta"), str):
                json.loads(document["argsTextDelta"], strict=False)
        except (ValueError, TypeError, RecursionError):
            how = broken
            break
        if tag in (b"a3:", b"ad:"):
            good = tag == b"ad:" and not (isinstance(document, dict) and document.get("finishReason") == "error")
            how = Finish if good else ModelFailed
            break
    return whole_characters(said[b"a0:"]), whole_characters(said[b"ag:"]), how


def summary(events: list[Event]) -> tuple[str, str, type]:
    last = events[-1]
    how = type(last.error) if isinstance(last, Failure) else type(last)
    return "".join(deltas_of(events, TextDeltas)), "".join(deltas_of(events, ReasoningDeltas)), how


#: Lines that begin and end with quotes, like valid deltas, with anything in between.
quoted_lines = st.lists(
    st.sampled_from(["\n", "\n", '"', "\\", ",", "[", "]", "hasArena", "hasArenaError"]), max_size=10
).map(lambda inside: b'a0:"' + "".join(inside).encode().replace(b"\n", b'"\na0:"') + b'"\n')


@given(wire=quoted_lines, sizes=read_sizes)
@example(b'a0:"x\\"\na0:","z"\n', [1])
@example(b'a0:"x","y\\"\na0:""\n', [1])
@example(b'a0:"x"\na0:"hasArenaError"\na0:"y"\n', [1])
@example(b'a0:"hasArena"\na0:"Error"\na0:"y hasArenaError"\n', [1])
@example(b'a0:"a",["b"\na0:"c"\na0:"d"],"e"\n', [1])
@example(b'a0:"a",{"b":"c"\na0:"d":"e"\na0:"f":"g"},"h"\n', [1])
def test_lines_that_look_like_deltas_are_read_one_by_one(wire: bytes, sizes: list[int]) -> None:
    lines = wire.splitlines(keepends=True)
    assert summary(read([wire])) == summary(read(lines)) == read_plainly(wire)
    assert told_all(read_all([wire])) == told_all(read_all(lines)) == told_all(read_all(cut(wire, sizes)))


debris = [
    *rb'a0: ag: a2: a3: ac: ad: ae: zz: " \" \ , "," "],[" [ ] { } x NaN null \ud83d \ude00 \u0000'.split(),
    *rb'a0:" ag:" ad:{"finishReason":"stop"} ad:{"finishReason":"error"} a2:[{"image":"i"}] ae:{}'.split(),
    *rb'a0:"hasArenaError" ag:"hasArenaError" hasArena Error" a2:[{"type":"heartbeat"}] a2:[{"type":"webdev"}]'.split(),
    *rb'a3:{"error": a3:"{\"error\":\"no\"}" ae:{"message":"why"}'.split(),
    *rb'ac:{"argsTextDelta":"{\"source\":[ {\"url\":\"\ud83d\",\"charLocation\":[ 99999999999999999999 ]}]}"}'.split(),
    *(b"\n", b"\n", b'"\n', b'\na0:"', b'a0:"x"\n', b"data: ", b"\r", b" ", b"\t", b"\x00", b"[" * 2000),
    *(b"\xe4\xbd\xa0", b"\xe4\xbd", b"\xed\xa0\xbd", b"\xe2\x80\xa8"),
]

#: Each byte selects a fragment; bytes above the number of fragments stand for themselves.
garbage = st.binary(max_size=14).map(
    lambda picks: b"".join(debris[pick] if pick < len(debris) else bytes([pick]) for pick in picks)
)


@given(wire=garbage, sizes=read_sizes, max_line_bytes=st.sampled_from([0, 8, 20, 60]))
@example(b'a0:"123"\r\n', [9], 8)
@example(b"no tag line\n", [9], 8)
@example(b'\ndata: a0:"x"\n', [1], 60)
def test_invalid_input_gives_the_same_events_for_any_split(wire: bytes, sizes: list[int], max_line_bytes: int) -> None:
    whole = read_all([wire])
    assert summary(whole[0]) == read_plainly(wire)
    assert told_all(read_all(cut(wire, sizes))) == told_all(whole)
    assert told_all(read_all(cut(wire, sizes), max_line_bytes)) == told_all(read_all([wire], max_line_bytes))
