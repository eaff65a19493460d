"""Files are extracted from a body before it is parsed; this never changes how the request is read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialects.data_urls import MAX_NAMES, MIN_BYTES, Extracted, read_without_data_urls
from bridge.dialects.fields import Fields
from bridge.errors import ApiError

MARK = "0123456789abcdef"
LEAST = 10


def read(body: bytes, least: int = LEAST) -> tuple[Fields, Extracted]:
    return read_without_data_urls(body, MARK, longest_prompt=1000, min_bytes=least)


def whole(fields: Fields, taken: Extracted) -> object:
    """Return the parsed fields with the extracted data put back."""

    def put_back(value: Any) -> object:
        if isinstance(value, str):
            return bytes(taken[value]).decode() if value in taken else value
        if isinstance(value, list):
            return [put_back(each) for each in value]
        if isinstance(value, Mapping):
            return {name: put_back(each) for name, each in value.items()}
        return value

    return {name: put_back(fields.any(name)) for name in fields.names}


urls = st.one_of(
    st.text('ab"\\/:,é\n', max_size=20).map("data:{}".format),
    st.text("ABCab01+/=", min_size=LEAST, max_size=40).map("data:image/png;base64,{}".format),
    st.text("ABCab01+/=", min_size=LEAST, max_size=40),
    st.text("ABCab01+/=", min_size=LEAST, max_size=40).map("iVBORw0KGgo{}".format),
    st.sampled_from(("", "data:", "DATA:image/png;base64,AAAAAAAAAA", 'x"url":"data:aaaaaaaaaaaa')),
    st.sampled_from(("url", "data", "file_data", 'x"file_data":"aaaaaaaaaaaa')),
)
names = st.sampled_from(
    (
        "url",
        "file_data",
        "data",
        'a"data',
        'a"url',
        'a"file_data',
        "\\url",
        "image_url",
        "text",
        '"url":"data:aaaaaaaaaaaa',
        "",
    )
)
values = st.recursive(
    st.one_of(urls, st.none(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
bodies = st.builds(
    lambda value, indent, separators, ascii_only: json.dumps(
        value, indent=indent, separators=separators, ensure_ascii=ascii_only
    ).encode(),
    st.dictionaries(names, values, max_size=4),
    st.sampled_from((None, 1)),
    st.sampled_from(((",", ":"), (" , ", " : "), (",", ":\r\n\t"))),
    st.booleans(),
)


@a_share(of=10)
@given(bodies)
def test_a_body_reads_the_same_with_its_files_extracted(body: bytes) -> None:
    assert whole(*read(body)) == orjson.loads(body)


@a_share(of=10)
@given(bodies, st.data())
def test_a_broken_body_gets_the_same_error_with_its_files_extracted(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body) - 1))
    broken = body[:at] + data.draw(st.sampled_from((b"", b'"', b"\\", b"}", b"\x01", b"\xff"))) + body[at + 1 :]
    expected, _ = refusal(broken, least=len(broken))
    refused, taken = refusal(broken)
    if refused is None and expected is not None:  # the fault is in extracted data and shows only when they are decoded
        assert not all(bytes(each).isascii() and bytes(each).decode().isprintable() for each in taken.values())
    else:
        assert refused == expected


def refusal(body: bytes, least: int = LEAST) -> tuple[str | None, Extracted]:
    """Return the error message for a body that is not JSON, and the data extracted from one that is."""
    try:
        _, taken = read(body, least)
    except ApiError as error:
        return error.message, {}
    return None, taken


def test_only_long_data_urls_are_extracted() -> None:
    short, long = ("data:" + "A" * (MIN_BYTES - 5 - less) for less in (1, 0))
    sent = {"a": {"url": short}, "b": {"url": long}, "c": {"image_url": long}}
    fields, taken = read(orjson.dumps(sent), MIN_BYTES)
    assert [bytes(each).decode() for each in taken.values()] == [long, long]
    assert fields.any("a") == {"url": short}
    assert fields.any("b") == {"url": f"{MARK}0"}
    assert fields.any("c") == {"image_url": f"{MARK}1"}


def test_file_data_is_extracted_as_bare_base64_or_as_a_data_url() -> None:
    bare, short = "JVBERi0" * LEAST, "J" * (LEAST - 1)
    whole_url = f"data:application/pdf;base64,{bare}"
    sent = {"a": {"file_data": bare}, "b": {"file_data": whole_url}, "c": {"file_data": short}, "d": {"url": bare}}
    fields, taken = read(orjson.dumps(sent))
    assert [bytes(each).decode() for each in taken.values()] == [bare, whole_url]
    assert whole(fields, taken) == sent
    assert (fields.any("c"), fields.any("d")) == (sent["c"], sent["d"])


def test_data_urls_after_the_maximum_number_of_names_stay_in_the_body() -> None:
    url = {"url": "data:" + "A" * LEAST}
    body = orjson.dumps({"short": [{"url": ""}] * (MAX_NAMES - 1), "taken": url, "left": url})
    fields, taken = read(body)
    assert len(taken) == 1
    assert fields.any("left") == url
    assert whole(fields, taken) == orjson.loads(body)


PICTURE = b'{"url":"data:image/png;base64,' + b"A" * 100

#: The beginning of a body, the piece that is repeated up to 30 MB, and the end.
HEAVY: dict[str, tuple[bytes, bytes, bytes]] = {
    "text": (b'{"a":"', b"some text ", b'"}'),
    "characters of four bytes": (b'{"a":"', "\N{GRINNING FACE}".encode(), b'"}'),
    "escapes": (b'{"a":"', b"\\n", b'"}'),
    "halves of characters": (b'{"a":"', rb"\ud800", b'"}'),
    "digits": (b'{"a":', b"1", b"}"),
    "quotes": (b"", b'"', b""),
    "names": (b"[", b'"url" ', b"]"),
    "names with a colon": (b"[", b'"data":', b"]"),
    "values that begin as files do": (b"[", b'"url":"data:', b'"]'),
    "zeroes": (b"", b"\0", b""),
    "blanks": (b"{", b" ", b"}"),
    "a picture that is cut off": (PICTURE, b"A", b""),
    "a picture, and broken JSON behind it": (PICTURE, b"A", b'"'),
    "a picture, and broken JSON before it": (b'{"a":nope,' + PICTURE[1:], b"A", b'"}'),
    "a picture, and half a character": (rb'{"a":"\ud800",' + PICTURE[1:], b"A", b'"}'),
    "a picture with slashes as PHP writes them": (PICTURE, rb"AAA\/", b'"}'),
}


@pytest.mark.slow
@pytest.mark.parametrize(("begin", "piece", "end"), HEAVY.values(), ids=HEAVY)
def test_a_large_hostile_body_is_read_within_half_a_second(begin: bytes, piece: bytes, end: bytes) -> None:
    body = begin + piece * (30_000_000 // len(piece)) + end
    began = time.process_time()
    with suppress(ApiError):
        read_without_data_urls(body, MARK, longest_prompt=113_000)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("text", ["a" * 5_000_000, "é" * 2_200_000, '"' * 2_200_000, "1" * 4_300_000], ids=len)
def test_a_body_with_text_far_over_the_prompt_limit_is_refused(text: str) -> None:
    body = orjson.dumps({"messages": [{"role": "user", "content": text}], "picture": {"url": "data:" + "A" * 100_000}})
    with pytest.raises(ApiError) as refused:
        read_without_data_urls(body, MARK, longest_prompt=113_000)
    assert refused.value.code == "context_length_exceeded"
    assert read_without_data_urls(body, MARK, longest_prompt=1_000_000)[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a" * 3_000_000, "it looks like UTF-16"),
        ("\ufeff" + "a" * 3_000_000, "it is UTF-16"),
    ],
    ids=["no mark", "a mark"],
)
def test_a_body_that_is_not_utf8_is_refused_as_such_at_any_length(text: str, said: str) -> None:
    with pytest.raises(ApiError, match=said):
        read_without_data_urls(text.encode("utf-16-le"), MARK, longest_prompt=113_000)


#: Ways in which clients write the data of a file; the test's file has 6 MB.
WRITTEN: dict[str, Callable[[str], str]] = {
    "plainly": lambda data: data,
    "with slashes as PHP writes them": lambda data: data.replace("/", "\\/"),
    "with capitals": lambda data: data.replace("data:", "DATA:"),
}


@pytest.mark.parametrize("name", ["url", "image_url", "file_data", "data"])
@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
def test_escaped_file_data_does_not_count_as_prompt_text(write: Callable[[str], str], name: str) -> None:
    beginning = "/9j/" if name == "data" else "data:image/jpeg;base64,"
    body = f'{{"a": {{"{name}": "{write(beginning + "AAA/" * 1_500_000)}"}}}}'.encode()
    fields, taken = read_without_data_urls(body, MARK, longest_prompt=1000)
    assert whole(fields, taken) == orjson.loads(body)


def test_many_small_files_do_not_count_as_prompt_text() -> None:
    urls = [{"url": "data:image/png;base64," + "A" * MIN_BYTES}] * 300
    _, taken = read(orjson.dumps({"a": urls}), MIN_BYTES)
    assert len(taken) == 300
