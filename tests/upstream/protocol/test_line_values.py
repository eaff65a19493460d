"""Lines whose value is a JSON document: limits on how much of a hostile one is parsed and kept."""

from __future__ import annotations

import json
from collections.abc import Callable

import orjson
import pytest

from upstream.protocol.errors import ProtocolViolated
from upstream.protocol.events import Citations, Event, Failure, Finish, Images
from upstream.protocol.line_values import (
    MAX_ITEMS,
    MAX_LENIENT_CHARS,
    MAX_OFFSETS,
    MAX_PARTS,
    MAX_REASON_CHARS,
    MAX_SOURCES,
    MAX_TITLE_CHARS,
    MAX_URL_CHARS,
    has_many_parts,
    loads,
)
from upstream.protocol.wire import Wire

MEBIBYTE = 1024 * 1024


def read(tag: str, value: object) -> tuple[Event, dict[str, int]]:
    wire = Wire()
    (event,) = wire.feed(b"%b:%b\n" % (tag.encode(), orjson.dumps(value)))
    return event, dict(wire.unknown)


def cited(*sources: object, apart: bool = False) -> Citations:
    """The citations of one line, in which the sources are in one list or, with `apart`, in separate entries."""
    lists = [[source] for source in sources] if apart else [list(sources)]
    items = [{"toolCallId": "citation-source", "argsTextDelta": json.dumps({"source": each})} for each in lists]
    event, _ = read("ac", items)
    assert isinstance(event, Citations)
    return event


@pytest.mark.parametrize("apart", [False, True])
def test_the_number_of_sources_is_limited(apart: bool) -> None:
    event = cited(*({"url": f"https://{number}/"} for number in range(3 * MAX_SOURCES)), apart=apart)
    assert [source.url for source in event.sources] == [f"https://{number}/" for number in range(MAX_SOURCES)]


def test_the_size_of_a_source_is_limited() -> None:
    event = cited(
        {"url": "u" * (MAX_URL_CHARS + 1)},
        {"url": "u" * MAX_URL_CHARS, "title": "t" * 10_000, "charLocation": list(range(10_000))},
    )
    (source,) = event.sources
    assert (len(source.url), source.title, source.offsets) == (
        MAX_URL_CHARS,
        "t" * MAX_TITLE_CHARS,
        tuple(range(MAX_OFFSETS)),
    )


@pytest.mark.parametrize(
    ("surplus", "unknown"),
    [
        ([{"type": "image", "image": "i"}], {"surplus items": 1}),
        ([{"type": "webdev"}] * 10_000, {"surplus items": 1}),
        ([0] * 50_000, {"surplus items": 1}),
    ],
)
def test_the_number_of_items_in_a_line_is_limited(surplus: list[object], unknown: dict[str, int]) -> None:
    event, counted = read("a2", [{"type": "image", "image": "i"}] * MAX_ITEMS + surplus)
    assert isinstance(event, Images)
    assert (len(event.urls), counted) == (MAX_ITEMS, unknown)


def test_the_size_of_a_finish_reason_is_limited() -> None:
    assert read("ad", {"finishReason": "w" * 10_000})[0] == Finish("w" * MAX_REASON_CHARS)


BUSHES: dict[str, Callable[[int], bytes]] = {
    "lists": lambda size: b"[" + b"[]," * (size // 3) + b"0]",
    "objects": lambda size: b"[" + b"{}," * (size // 3) + b"0]",
    "numbers": lambda size: b"[" + b"0," * (size // 2) + b"0]",
    "members": lambda size: b"{" + b'"a":0,' * (size // 6) + b'"b":0}',
    "brackets": lambda size: b"[" * size,
    "the end of a long string": lambda size: b'["' + b"x" * size + b'",' + b"0," * (size // 2) + b"0]",
}


@pytest.mark.parametrize("bush", BUSHES.values(), ids=BUSHES)
@pytest.mark.parametrize("tag", [b"a2", b"ac", b"a3", b"ad"])
def test_a_document_of_too_many_parts_is_not_parsed(
    bush: Callable[[int], bytes], tag: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = tag + b":" + bush(MEBIBYTE) + b"\n"

    def no_loads(_: object) -> object:
        raise AssertionError("it is parsed")

    monkeypatch.setattr("upstream.protocol.line_values.orjson.loads", no_loads)
    (event,) = Wire().feed(line)
    assert isinstance(event, Failure)
    assert isinstance(event.error, ProtocolViolated)


@pytest.mark.parametrize("tag", ["ac", "a3"])
def test_a_document_of_too_many_parts_within_a_string_is_not_parsed(tag: str) -> None:
    inside = '{"error":' + BUSHES["numbers"](MEBIBYTE).decode() + "}"
    event, _ = read(tag, {"argsTextDelta": inside, "message": inside})
    assert isinstance(event, Failure)


def test_a_long_text_with_many_commas_is_read() -> None:
    """A long answer in one line is not a document, even if it has many commas."""
    text = "a, b, [c], {d}\n" * 100_000
    assert loads(orjson.dumps(text)) == text
    assert has_many_parts(text)
    assert not has_many_parts("," * MAX_PARTS)
    assert has_many_parts(b"," * (MAX_PARTS + 1))
    (event,) = Wire().feed(b"a0: " + orjson.dumps(text) + b"\n")
    assert event.text == text  # type: ignore[union-attr]


@pytest.mark.parametrize("oddity", [r"\ud800", r"\udc00", "\r", "\x01"])
def test_only_short_documents_are_parsed_by_the_standard_library(oddity: str) -> None:
    many = MAX_LENIENT_CHARS // len(oddity) - 10
    short, long = (b'a0:"' + (oddity * count).encode() + b'"\n' for count in (many, many + 100))
    read = "\ufffd" if oddity.startswith("\\") else oddity
    last = Wire().feed(short)
    assert "".join(event.text for event in last) in (read * many, read * (many - 1))  # type: ignore[union-attr]
    (event,) = Wire().feed(long)
    assert isinstance(event, Failure)
    assert isinstance(event.error, ProtocolViolated)
