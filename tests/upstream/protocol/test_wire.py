"""The line stream's contract (docs/protocol.md, "The answer: a line stream"; docs/reliability.md,
"Broken answers"), row by row.
"""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from upstream.protocol.errors import ModelFailed, ProtocolViolated, Reason, Truncated, UpstreamError
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
from upstream.protocol.wire import MAX_LINE_BYTES, Wire

STOP = b'ad:{"finishReason":"stop"}\n'
READ_BYTES = 64 * 1024


def text(*deltas: str) -> tuple[Any, ...]:
    return (TextDeltas, *deltas)


def reasoning(*deltas: str) -> tuple[Any, ...]:
    return (ReasoningDeltas, *deltas)


def failure(error: type[UpstreamError], detail: str = "") -> tuple[Any, ...]:
    return (Failure, error, detail)


def told(events: Iterable[Event]) -> list[object]:
    """Make events independent of reads: join runs of one kind, decode deltas, and reduce failures to their class."""
    said: list[Any] = []
    for event in events:
        match event:
            case TextDeltas() | ReasoningDeltas():
                deltas = [json.loads(line) for line in event.json.split(b"\n")]
                assert "".join(deltas) == event.text
                if said and isinstance(said[-1], tuple) and said[-1][0] is type(event):
                    said[-1] += tuple(deltas)
                else:
                    said.append((type(event), *deltas))
            case Failure(error):
                said.append(failure(type(error), error.detail))
            case _:
                said.append(event)
    return said


def feed(wire: Wire, reads: Iterable[bytes]) -> list[Event]:
    return [event for data in reads for event in wire.feed(data)]


def answer(*reads: bytes, max_line_bytes: int = MAX_LINE_BYTES) -> list[object]:
    """Parse a complete answer, including the end of its transport."""
    wire = Wire(max_line_bytes=max_line_bytes)
    return told(feed(wire, reads) + wire.feed_eof())


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


class Case(NamedTuple):
    """An answer's bytes, the expected events, and the expected counts by kind of what is skipped as unknown or late."""

    wire: bytes
    events: list[object]
    unknown: Mapping[str, int] = MappingProxyType({})


def late(lines: int) -> Mapping[str, int]:
    return {"late line": lines} if lines else {}


PICTURE = Images(("https://r2/1.png",))
PAGE = Source("https://a/", None, (3, 9))
UNREADABLE = failure(ProtocolViolated)

CASES = {
    # recorded answers
    "captured text": Case(
        b'a0:"Follow-up "\na0:"received "\na0:"and "\na0:"confirmed.\\n\\n"\n' + STOP,
        [text("Follow-up ", "received ", "and ", "confirmed.\n\n"), Finish("stop")],
    ),
    "captured thoughts": Case(
        'ag:""\nag:"哦"\nag:"\\"。"\na0:"你好！👋 "\n'.encode() + STOP,
        [reasoning("", "哦", '"。'), text("你好！👋 "), Finish("stop")],
    ),
    # text
    "one delta": Case(b'a0:"x"\n', [text("x")]),
    "an empty delta": Case(b'a0:""\n', [text("")]),
    "blanks around the string": Case(b'a0: "x" \n', [text("x")]),
    "kinds in turn": Case(b'a0:"a"\nag:"b"\na0:"c"\n', [text("a"), reasoning("b"), text("c")]),
    "every JSON escape": Case(rb'a0:"\"\\\/\b\f\n\r\t\u00e9"' + b"\n", [text('"\\/\b\f\n\r\té')]),
    "text that looks like the wire": Case(rb'a0:"\na0:\"x\"\nad:{}"' + b"\n", [text('\na0:"x"\nad:{}')]),
    "raw U+2028, U+2029, U+0085": Case('a0:"a\u2028b\u2029c\u0085d"\n'.encode(), [text("a\u2028b\u2029c\u0085d")]),
    "raw CR, TAB, NUL": Case(b'a0:"a\rb\tc\x00d"\na0:"e"\n', [text("a\rb\tc\x00d", "e")]),
    "escaped NUL": Case(rb'a0:"\u0000"' + b"\n", [text("\x00")]),
    "NULs that look like UTF-16": Case(b'a0:"\x00a\x00"\x00\n', [UNREADABLE]),
    # split characters
    "an emoji in one delta": Case(rb'a0:"\ud83d\ude00"' + b"\n", [text("😀")]),
    "an emoji over two deltas": Case(rb'a0:"a\ud83d"' + b"\n" + rb'a0:"\ude00b"' + b"\n", [text("a", "😀b")]),
    "an emoji over three deltas": Case(b'a0:"\\ud83d"\na0:""\na0:"\\ude00"\n', [text("", "", "😀")]),
    "two emoji cut in their middles": Case(
        b'a0:"\\ud83d"\na0:"\\ude00\\ud83d"\na0:"\\ude01"\n', [text("", "😀", "😁")]
    ),
    "a half held over harmless lines": Case(
        b'a0:"\\ud83d"\n\nae:{}\n' + b'zz:?\nag:"hm"\na2:[{"image":"https://r2/1.png","mimeType":"image/png"}]\n'
        b'a0:"\\ude00"\n',
        [text(""), reasoning("hm"), PICTURE, text("😀")],
        {"tag zz": 1},
    ),
    "each kind holds its own half": Case(
        b'a0:"\\ud83d"\nag:"\\ud83d"\na0:"\\ude00"\nag:"\\ude01"\n',
        [text(""), reasoning(""), text("😀"), reasoning("😁")],
    ),
    "a lone high half inside": Case(rb'a0:"a\ud83db"' + b"\n", [text("a\ufffdb")]),
    "a lone low half": Case(rb'a0:"\ude00a"' + b"\n", [text("\ufffda")]),
    "halves in the wrong order": Case(b'a0:"\\ude00"\na0:"\\ud83d"\na0:"x"\n', [text("\ufffd", "", "\ufffdx")]),
    "two high halves": Case(b'a0:"\\ud83d"\na0:"\\ud83d\\ude00"\n', [text("", "\ufffd😀")]),
    "a half before the finish": Case(b'a0:"a\\ud83d"\n' + STOP, [text("a", "\ufffd"), Finish("stop")]),
    "a half before a failure": Case(b'a0:"\\ud83d"\na3:"no"\n', [text("", "\ufffd"), failure(ModelFailed, "no")]),
    "halves where they may not be held": Case(
        b'a2:[{"image":"\\ud83d"}]\nac:{"argsTextDelta":"{\\"source\\":{\\"url\\":\\"\\\\ud83d\\"}}"}\n'
        b'ad:{"finishReason":"\\ude00"}\n',
        [Images(("\ufffd",)), Citations((Source("\ufffd"),)), Finish("\ufffd")],
    ),
    # lines
    "blank lines": Case(b'\n\na0:"x"\n\n \t\na0:"y"\n', [text("x", "y")]),
    "CRLF": Case(b'a0:"x"\r\na0:"y"\r\n\r\n', [text("x", "y")]),
    "the prefix": Case(b'data: a0:"x"\ndata: a0:"y"\ndata: \n', [text("x", "y")]),
    "the prefix and blank lines": Case(b'\ndata: a0:"x"\n\ndata: a0:"y"\r\n\r\n', [text("x", "y")]),
    "the prefix on some lines": Case(b'a0:"x"\ndata: a0:"y"\na0:"z"\n', [text("x", "y", "z")]),
    "the prefix twice is no tag": Case(b'data: data: a0:"x"\n', [], {"no tag": 1}),
    "the prefix inside a text": Case(b'a0:"data: x"\n', [text("data: x")]),
    "bookkeeping": Case(b'ae:{}\naf:{"x":1}\na8:[]\na9:{\naa:\nab:?\n', []),
    "unknown tags": Case(
        b'ah:{}\nak:{\nzz:\nb0:"the other model"\n: :\nah:{}\n\xff\xfe:\n',
        [],
        {"tag ah": 2, "tag ak": 1, "tag zz": 1, "tag b0": 1, "tag : ": 1, "tag ??": 1},
    ),
    "no tag at all": Case(b': comment\nevent: x\n<html>\n{"a0":"x"}\na0\n a0:"x"\n\xff\xfe\n', [], {"no tag": 7}),
    # broken text is an error, and never skipped or guessed
    "broken JSON": Case(b'a0:"before"\na0:"br\n', [text("before"), UNREADABLE]),
    "nothing under a text tag": Case(b"a0:\n", [UNREADABLE]),
    "no string under a text tag": Case(b'ag:"x"\nag:{"text":"x"}\n', [reasoning("x"), UNREADABLE]),
    "broken UTF-8": Case(b'a0:"before"\na0:"\xe4\xbd"\n', [text("before"), UNREADABLE]),
    "surrogates in UTF-8": Case(b'a0:"\xed\xa0\xbd\xed\xb8\x80"\n', [UNREADABLE]),
    "a bad escape": Case(rb'a0:"\x"' + b"\n", [UNREADABLE]),
    "a string cut by its newline": Case(b'a0:"a\nb"\n', [UNREADABLE], late(1)),
    "two strings on a line": Case(b'a0:"x","y"\n', [UNREADABLE]),
    "two strings, then a lone quote": Case(b'a0:"x","y"\na0:"\n', [UNREADABLE], late(1)),
    "two strings, then none": Case(b'a0:"x","y"\na0:\n', [UNREADABLE], late(1)),
    "an escaped quote joins two lines": Case(b'a0:"x\\"\na0:","z"\n', [UNREADABLE], late(1)),
    "an escaped quote joins a last quote": Case(b'a0:"x","y\\"\na0:"\n', [UNREADABLE], late(1)),
    "a list closed and opened": Case(b'a0:"a"]\na0:["b"\n', [UNREADABLE], late(1)),
    "a list closed and opened within quotes": Case(b'a0:"a"],["b"\n', [UNREADABLE]),
    "a list over three lines": Case(b'a0:"a",["b"\na0:"c"\na0:"d"],"e"\n', [UNREADABLE], late(2)),
    "an object over three lines": Case(b'a0:"a",{"b":"c"\na0:"d":"e"\na0:"f":"g"},"h"\n', [UNREADABLE], late(2)),
    "good lines before a joined pair": Case(b'a0:"ok"\na0:"x\\"\na0:","z"\n', [text("ok"), UNREADABLE], late(1)),
    "broken JSON under bookkeeping is harmless": Case(b'ae:{\na0:"x"\n', [text("x")]),
    "broken pictures": Case(b"a2:[{\n", [UNREADABLE]),
    "a picture list nested too deep": Case(b"a2:" + b"[" * 100_000 + b"\n", [UNREADABLE]),
    # pictures and citations
    "pictures": Case(
        b'a2:[{"type":"image","image":"https://r2/1.png","mimeType":"image/png"},{"type":"image","image":"https://r2/2"}]\n',
        [Images(("https://r2/1.png", "https://r2/2"))],
    ),
    "pictures without an address": Case(
        b'a2:[{"type":"image"},{"image":""},{"image":7},null,"x"]\na2:7\na2:[]\n',
        [],
        {"item image": 1, "no item type": 5},
    ),
    "a picture without a type": Case(
        b'a2:{"image":"i"}\na2:[{"type":null,"image":"j"}]\n', [Images(("i",)), Images(("j",))]
    ),
    "a heartbeat": Case(b'a2:[{"type":"heartbeat"}]\na2:[{"type":"heartbeat"},{"type":"heartbeat"}]\n', []),
    "heartbeats before and with a picture": Case(
        b'a2:[{"type":"heartbeat"}]\n'
        b'a2:[{"type":"heartbeat"},{"type":"image","image":"https://r2/1.png","mimeType":"image/png"}]\n' + STOP,
        [PICTURE, Finish("stop")],
    ),
    "items of other types": Case(
        b'a2:[{"type":"routed_model","model":"m"},{"type":"webdev","image":"i"}]\ndata: a2:[{"type":"webdev"}]\n',
        [],
        {"item routed_model": 1, "item webdev": 2},
    ),
    "item types that no log should show": Case(
        b'a2:[{"type":"a\\n\\u001b[31m\\ud83d\xc3\xa9"},{"type":"' + b"x" * 1000 + b'"}]\n',
        [],
        {"item a??[31m??": 1, "item " + "x" * 25: 1},
    ),
    "one citation": Case(
        rb'ac:{"toolCallId":"citation-source","argsTextDelta":"{\"source\":{\"id\":\"1\",\"url\":\"https://a/\",'
        rb'\"charLocation\":[3,9]}}"}' + b"\n",
        [Citations((PAGE,))],
    ),
    "a citation with a title": Case(
        rb'ac:{"argsTextDelta":"{\"source\":{\"url\":\"https://a/\",\"title\":\"A \\\"page\\\"\"}}"}' + b"\n",
        [Citations((Source("https://a/", 'A "page"'),))],
    ),
    "the full list of citations": Case(
        rb'ac:{"argsTextDelta":"{\"source\":[{\"url\":\"https://a/\",\"charLocation\":[3,9]},{\"url\":\"https://b/\"}]}"}'
        b"\n",
        [Citations((PAGE, Source("https://b/")))],
    ),
    "citations of odd shapes": Case(
        rb'ac:{"argsTextDelta":"{\"source\":[{\"url\":7},{\"title\":\"t\"},null,{\"url\":\"https://a/\",\"title\":7,'
        rb'\"charLocation\":[3,true,\"4\",-1,1e3,null,123456789012345678901234567890,9]}]}"}' + b"\n",
        [Citations((PAGE,))],
    ),
    "a citation without arguments": Case(
        b'ac:{"toolCallId":"citation-source"}\nac:7\n', [Citations(()), Citations(())]
    ),
    "a part of citations": Case(b'a0:"x"\nac:{"argsTextDelta":"{"}\n', [text("x"), Citations(())]),
    "broken citations": Case(b'a0:"x"\nac:{"argsTextDelta\n', [text("x"), UNREADABLE]),
    # the finish
    "finish stop": Case(STOP, [Finish("stop")]),
    "finish length": Case(b'ad:{"finishReason":"length","usage":{"completionTokens":7}}\n', [Finish("length")]),
    "finish content-filter": Case(b'ad:{"finishReason":"content-filter"}\n', [Finish("content-filter")]),
    "finish unknown": Case(b'ad:{"finishReason":"unknown"}\n', [Finish("unknown")]),
    "finish in a word of tomorrow": Case(b'ad:{"finishReason":"paused"}\n', [Finish("paused")]),
    "finish without a reason": Case(b"ad:{}\n", [Finish(None)]),
    "finish with an empty reason": Case(b'ad:{"finishReason":""}\n', [Finish(None)]),
    "finish with a reason of no string": Case(b'ad:{"finishReason":7}\n', [Finish(None)]),
    "finish that is no object": Case(b"ad:null\n", [Finish(None)]),
    "finish error": Case(b'a0:"x"\nad:{"finishReason":"error"}\n', [text("x"), failure(ModelFailed)]),
    "broken finish": Case(b'a0:"x"\nad:{"finishReason"\n', [text("x"), UNREADABLE]),
    "a3 first": Case(b'a3:"An error occurred"\n', [failure(ModelFailed, "An error occurred")]),
    "a3 after text": Case(b'a0:"x"\na3:"Overloaded"\n', [text("x"), failure(ModelFailed, "Overloaded")]),
    "a3 with a page": Case(b'a3:"<!DOCTYPE html><title>502</title>"\n', [failure(ModelFailed)]),
    "a3 with an object": Case(b'a3:{"code":7,"message":"Overloaded"}\n', [failure(ModelFailed, "Overloaded")]),
    "a3 with an error in an object": Case(b'a3:{"error":"Overloaded"}\n', [failure(ModelFailed, "Overloaded")]),
    "a3 with a nested object": Case(
        b'a3:{"message":"","error":{"error":{"message":"Overloaded"}}}\n', [failure(ModelFailed, "Overloaded")]
    ),
    "a3 with JSON in its string": Case(
        rb'a3:" {\"error\":{\"message\":\"Overloaded\"}}"' + b"\n", [failure(ModelFailed, "Overloaded")]
    ),
    "a3 with JSON in JSON": Case(
        b"a3:" + json.dumps({"message": json.dumps({"error": "Overloaded"})}).encode() + b"\n",
        [failure(ModelFailed, "Overloaded")],
    ),
    "a3 with JSON without words": Case(rb'a3:"{\"code\":7}"' + b"\n", [failure(ModelFailed, '{"code":7}')]),
    "a3 with what only begins like JSON": Case(b'a3:"{oops"\n', [failure(ModelFailed, "{oops")]),
    "a3 without words": Case(b'a3:{"message":7,"error":null}\n', [failure(ModelFailed)]),
    "a3 that is no text": Case(b"a3:[7]\n", [failure(ModelFailed)]),
    "a3 with a page in an object": Case(b'a3:{"error":"<html>502</html>"}\n', [failure(ModelFailed)]),
    "a3 of many words in an object": Case(
        b'a3:{"message":"' + b"w" * 1000 + b'"}\n', [failure(ModelFailed, "w" * 300)]
    ),
    "a3 nested too deep": Case(b"a3:" + b'{"error":' * 1000 + b'"x"' + b"}" * 1000 + b"\n", [failure(ModelFailed)]),
    "a3 with half a character": Case(rb'a3:{"message":"no\ud83d!"}' + b"\n", [failure(ModelFailed, "no !")]),
    # a delta that is not a text
    "hasArenaError": Case(b'a0:"hasArenaError"\n', [failure(ModelFailed)]),
    "hasArenaError after text": Case(b'a0:"x"\na0:"hasArenaError"\n', [text("x"), failure(ModelFailed)]),
    "hasArenaError before text": Case(b'a0:"hasArenaError"\na0:"x"\na0:"y"\n' + STOP, [failure(ModelFailed)], late(3)),
    "hasArenaError between text": Case(
        b'a0:"x"\na0:"y"\na0:"hasArenaError"\na0:"z"\n', [text("x", "y"), failure(ModelFailed)], late(1)
    ),
    "hasArenaError after the prefix": Case(
        b'data: a0:"x"\ndata: a0:"hasArenaError"\ndata: ad:{}\n', [text("x"), failure(ModelFailed)], late(1)
    ),
    "hasArenaError in escapes": Case(
        b'a0:"x"\na0:"' + b"".join(b"\\u%04x" % char for char in b"hasArenaError") + b'"\n',
        [text("x"), failure(ModelFailed)],
    ),
    "hasArenaError on a hard line": Case(b'a0: "hasArenaError" \r\n', [failure(ModelFailed)]),
    "hasArenaError after half a character": Case(
        b'a0:"\\ud83d"\na0:"hasArenaError"\n', [text("", "\ufffd"), failure(ModelFailed)]
    ),
    "hasArenaError among other words": Case(
        b'a0:"It says hasArenaError."\na0:"hasArenaError "\na0:"hasarenaerror"\n',
        [text("It says hasArenaError.", "hasArenaError ", "hasarenaerror")],
    ),
    "hasArenaError over two deltas": Case(b'a0:"hasArena"\na0:"Error"\n', [text("hasArena", "Error")]),
    "hasArenaError as a thought": Case(
        b'ag:"hasArenaError"\nag: "hasArenaError"\nag:"hm"\n' + STOP,
        [reasoning("hasArenaError", "hasArenaError", "hm"), Finish("stop")],
    ),
    "a3 of many words": Case(b'a3:"' + b"w" * 1000 + b'"\n', [failure(ModelFailed, "w" * 300)]),
    "two finishes: the first wins": Case(STOP + b'ad:{"finishReason":"length"}\n', [Finish("stop")], late(1)),
    "a3 after the finish": Case(STOP + b'a3:"late"\n', [Finish("stop")], late(1)),
    "finish after a3": Case(b'a3:"no"\n' + STOP, [failure(ModelFailed, "no")], late(1)),
    "text after the finish": Case(b'a0:"x"\n' + STOP + b'\na0:"y"\na0:"z"\n', [text("x"), Finish("stop")], late(2)),
    "broken JSON after the finish": Case(STOP + b'a0:"\n', [Finish("stop")], late(1)),
    "text after broken JSON": Case(b'a0:"\na0:"y"\n', [UNREADABLE], late(1)),
}

TERMINAL = (Finish, Failure)


def is_over(events: list[object]) -> bool:
    last = events[-1] if events else None
    return isinstance(last, Finish) or (isinstance(last, tuple) and last[0] is Failure)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_lines_are_read_as_documented_however_they_are_split(case: Case) -> None:
    whole(case)
    byte_by_byte(case)
    with_a_tail(case)
    without_the_last_newline(case)
    exactly_one_terminal_event_and_it_is_last(case)


def whole(case: Case) -> None:
    wire = Wire()
    assert told(wire.feed(case.wire)) == case.events
    assert wire.unknown == case.unknown


def byte_by_byte(case: Case) -> None:
    wire = Wire()
    assert told(feed(wire, cut(case.wire, 1))) == case.events
    assert wire.unknown == case.unknown


def with_a_tail(case: Case) -> None:
    wire = Wire()
    over = is_over(case.events)
    tail = [] if over else [PICTURE, Finish("length")]
    events = wire.feed(
        case.wire + b'a2:[{"image":"https://r2/1.png","mimeType":"image/png"}]\n' + b'ad:{"finishReason":"length"}\n'
    )
    assert told(events) == case.events + tail
    assert wire.unknown == Counter(case.unknown) + Counter(late(2 if over else 0))
    assert wire.feed_eof() == []


def without_the_last_newline(case: Case) -> None:
    """An invalid last line then counts as a truncation by the transport."""
    expected = case.events if is_over(case.events) else [*case.events, failure(Truncated)]
    events = answer(case.wire.removesuffix(b"\n"))
    assert events in (expected, [*expected[:-1], failure(Truncated)])
    assert expected[-1] in (events[-1], UNREADABLE)


def exactly_one_terminal_event_and_it_is_last(case: Case) -> None:
    wire = Wire()
    events = [*feed(wire, cut(case.wire, 7)), *wire.feed_eof(), *wire.feed(STOP), *wire.feed_eof()]
    assert [isinstance(event, TERMINAL) for event in events] == [False] * (len(events) - 1) + [True]


class TestUnknown:
    """Unknown lines and items are counted, within bounds."""

    def test_twenty_kinds_of_unknown_lines_are_counted_separately(self) -> None:
        wire = Wire()
        wire.feed(b"".join(b"%02d:{}\n" % number for number in range(30)) + b"29:\n00:\n")
        assert wire.unknown == {f"tag {number:02d}": 1 + (number == 0) for number in range(20)} | {"other": 11}

    def test_only_lines_that_are_not_blank_are_counted_after_the_end(self) -> None:
        wire = Wire()
        wire.feed(STOP + b"\n \t\r\ndata: \nae:{}\n")
        assert wire.unknown == late(1)

    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_an_overlong_line_is_counted_once(self, size: int) -> None:
        """Its rest arrives after the answer's end, but does not count as another line."""
        wire = Wire(max_line_bytes=20)
        events = feed(wire, cut(b'a0:"' + b"y" * 100 + b'"\na0:"late"\n' + b"z" * 100 + b"\n", size))
        assert told(events) == [UNREADABLE]
        assert wire.unknown == late(2)


class TestExplanation:
    """A bookkeeping line may explain why an answer has no content."""

    @pytest.mark.parametrize(
        ("lines", "explanation"),
        [
            (b'ae:{"message":"Your credits are used up."}\n', "Your credits are used up."),
            (b'data: ae:{"message":"a"}\nae:{}\nae:{"message":"b"}\nae:{"message":""}\n', "b"),
            (b'a0:"x"\nae:{"message":"a\\u001b\\n\\ud83d!"}\nad:{}\n', "a   !"),
            (b'ae:{"message":"' + b"w" * 1000 + b'"}\n', "w" * 300),
            (b'ae:{"message":"<html>"}\nae:{"message":7}\nae:["message"]\nae:{"message\nae:\n', ""),
            (b'af:{"message":"x"}\n', ""),
            (STOP + b'ae:{"message":"late"}\n', ""),
        ],
    )
    def test_the_last_message_of_a_bookkeeping_line_is_the_explanation(self, lines: bytes, explanation: str) -> None:
        whole, in_bytes = Wire(), Wire()
        whole.feed(lines)
        feed(in_bytes, cut(lines, 1))
        assert whole.explanation == in_bytes.explanation == explanation


class TestEndOfTransport:
    """docs/reliability.md, "Broken answers": a finish marker is required for success."""

    def test_an_empty_answer_is_truncated(self) -> None:
        assert answer() == [failure(Truncated)]

    def test_text_without_a_finish_is_truncated(self) -> None:
        assert answer(b'a0:"x"\n') == [text("x"), failure(Truncated)]

    def test_an_answer_that_ends_within_a_line_is_truncated(self) -> None:
        assert answer(b'a0:"x"\na0:"y') == [text("x"), failure(Truncated)]

    def test_a_lone_surrogate_at_the_end_of_an_answer_is_replaced(self) -> None:
        assert answer(b'a0:"x\\ud83d"\n') == [text("x", "\ufffd"), failure(Truncated)]

    def test_a_finish_without_a_newline_is_read(self) -> None:
        assert answer(b'a0:"x"\n', STOP.rstrip()) == [text("x"), Finish("stop")]

    def test_text_without_a_newline_is_read(self) -> None:
        assert answer(b'a0:"x"') == [text("x"), failure(Truncated)]

    def test_broken_answers_have_their_documented_reasons(self) -> None:
        assert [Truncated.reason, ProtocolViolated.reason] == [Reason.TRUNCATED, Reason.UPSTREAM_ERROR]

    def test_empty_reads_make_no_events(self) -> None:
        assert answer(b"", b'a0:"', b"", b'x"\n', b"", STOP, b"") == [text("x"), Finish("stop")]


class TestBatches:
    def test_consecutive_lines_of_one_kind_are_one_event(self) -> None:
        assert Wire().feed(b'a0:"x"\na0:"\\u00e9\\n"\n') == [TextDeltas("xé\n", b'"x"\n"\\u00e9\\n"')]

    def test_consecutive_lines_with_a_prefix_are_one_event(self) -> None:
        assert Wire().feed(b'data: a0:"x"\ndata: a0:"y"\n') == [TextDeltas("xy", b'"x"\n"y"')]

    def test_a_text_that_quotes_a_failure_does_not_split_its_event(self) -> None:
        assert Wire().feed(b'a0:"hasArenaError "\na0:"x"\n') == [
            TextDeltas("hasArenaError x", b'"hasArenaError "\n"x"')
        ]

    def test_events_end_with_the_finish_even_if_lines_follow_in_the_same_read(self) -> None:
        assert told(Wire().feed(b'a0:"x"\n' + STOP + b'a0:"late"\n')) == [text("x"), Finish("stop")]

    def test_an_unfinished_line_makes_no_events(self) -> None:
        wire = Wire()
        assert wire.feed(b'a0:"x') == []
        assert told(wire.feed(b'y"\na0:"z')) == [text("xy")]


class TestLongLines:
    """docs/reliability.md, "Broken answers". If parsing took more than linear time, these tests would not end."""

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("read_bytes", [64, READ_BYTES])
    def test_a_line_of_five_megabytes_of_text_is_read_in_linear_time(self, read_bytes: int) -> None:
        words = "x" * 5_000_000
        assert answer(*cut(b'a0:"' + words.encode() + b'"\n' + STOP, read_bytes)) == [text(words), Finish("stop")]

    def test_a_line_of_five_megabytes_of_pictures_is_read_in_linear_time(self) -> None:
        url = "data:image/png;base64," + "A" * 5_000_000
        line = b"a2:" + json.dumps([{"type": "image", "image": url}]).encode() + b"\n"
        assert answer(*cut(line + STOP, READ_BYTES)) == [Images((url,)), Finish("stop")]

    def test_a_line_longer_than_the_limit_fails(self) -> None:
        assert answer(*cut(b'a0:"x"\na0:"' + b"y" * MAX_LINE_BYTES, READ_BYTES)) == [text("x"), UNREADABLE]

    @pytest.mark.parametrize("size", [1, 5, 100])
    @pytest.mark.parametrize("line", [b'a0:"123"', b'a0:"12"\r', b"ae:{    ", b"no tag! ", b"        "], ids=repr)
    def test_a_line_of_exactly_the_limit_passes(self, line: bytes, size: int) -> None:
        assert answer(*cut(line + b"\n", size), max_line_bytes=8)[-1] == failure(Truncated)
        assert answer(*cut(line + b"\n", size), max_line_bytes=7) == [UNREADABLE]

    def test_the_prefix_counts_towards_the_length_of_a_line(self) -> None:
        assert answer(b'data: a0:"x"\n', max_line_bytes=11) == [UNREADABLE]

    def test_many_short_lines_may_exceed_the_limit_of_one_line(self) -> None:
        assert answer(b'a0:"x"\n' * 100, max_line_bytes=8) == [text(*"x" * 100), failure(Truncated)]

    @pytest.mark.parametrize("start", [b'a0:"', STOP], ids=["in the answer", "after its end"])
    @pytest.mark.parametrize("read_bytes", [2, READ_BYTES])
    def test_an_endless_line_does_not_fill_the_memory(self, start: bytes, read_bytes: int) -> None:
        wire = Wire(max_line_bytes=64 * 1024)
        tracemalloc.start()
        try:
            events = wire.feed(start)
            for number in range(512 * 1024 // read_bytes):
                events += wire.feed(b"%02d" % (number % 100) * (read_bytes // 2))  # never the same object twice
            events += wire.feed_eof()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert told(events) == [UNREADABLE if start != STOP else Finish("stop")]
        assert peak < 512 * 1024
