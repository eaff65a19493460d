"""Bodies that are nearly JSON: which are mended, and which are refused with the wrong bytes and their place."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialects.fields import read_object
from bridge.dialects.json_text import replace_lone_surrogates, utf8_error
from bridge.errors import ApiError

REPLACED = "\N{REPLACEMENT CHARACTER}"


def written(text: str) -> bytes:
    """Return a body whose content is written as `text`, escapes included."""
    return f'{{"content":"{text}"}}'.encode()


HALVES = {
    "a high half at the end": (r"half: \ud83d", f"half: {REPLACED}"),
    "a high half before a letter": (r"\ud83dx", f"{REPLACED}x"),
    "a high half before another escape": (r"\ud83d\n", f"{REPLACED}\n"),
    "a high half before an escaped letter": (r"\uD83D\u0041", f"{REPLACED}A"),
    "a low half": (r"\ude00!", f"{REPLACED}!"),
    "the halves in the wrong order": (r"\ude00\ud83d", REPLACED * 2),
    "two high halves": (r"\ud83d\ud83d", REPLACED * 2),
    "a high half before a whole character": (r"\ud83d\ud83d\ude00", f"{REPLACED}\N{GRINNING FACE}"),
    "a low half behind a whole character": (r"\ud83d\ude00\ude00", f"\N{GRINNING FACE}{REPLACED}"),
    "behind an escaped backslash": (r"\\\ud83d", f"\\{REPLACED}"),
    "an escaped backslash between the halves": (r"\ud83d\\\ude00", f"{REPLACED}\\{REPLACED}"),
    "beside what only looks like one": (r"\\ud83d \ud83d", f"\\ud83d {REPLACED}"),
    "the first and the last of each": (r"\ud800 \uDBFF \udc00 \uDFFF", " ".join(REPLACED * 4)),
}


@pytest.mark.parametrize(("text", "read"), HALVES.values(), ids=HALVES)
def test_a_lone_surrogate_is_replaced(text: str, read: str) -> None:
    assert read_object(written(text)).string("content") == read


def test_a_lone_surrogate_in_a_name_after_a_byte_order_mark_is_replaced() -> None:
    assert list(read_object(b"\xef\xbb\xbf" + rb'{"a\ud83d": 1}').names) == [f"a{REPLACED}"]


@a_share(of=5)
@given(st.text(st.characters(categories=["L", "Cs", "Po"]) | st.sampled_from('\\"ud8e')))
def test_any_string_escaped_by_python_is_read(text: str) -> None:
    read = read_object(json.dumps({"content": text}).encode()).string("content")
    assert read == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@a_share(of=5)
@given(st.binary())
def test_replacing_lone_surrogates_keeps_the_length_of_a_body(body: bytes) -> None:
    mended = replace_lone_surrogates(body)
    assert mended is None or len(mended) == len(body)


@pytest.mark.parametrize("body", [b'{"a":1}', b' \n{"a":1}', b'{"a":1}\n', b'{"a":1 }'])
def test_a_byte_order_mark_before_the_body_is_skipped(body: bytes) -> None:
    assert read_object(b"\xef\xbb\xbf" + body).integer("a") == 1


CHAT = '{\n "content": "déjà vu"}'

NAMED = {
    "nothing": (b"", "is empty"),
    "nothing but a mark": (b"\xef\xbb\xbf", "is empty"),
    "Latin-1": (CHAT.encode("latin-1"), "byte 17 of the body (line 2, column 15) is 0xe9. Send it in UTF-8"),
    "Windows-1252": ('{"a":"“"}'.encode("cp1252"), "byte 7 of the body (line 1, column 7) is 0x93"),
    "Shift JIS": ('{"a":"日"}'.encode("shift-jis"), "byte 7 of the body (line 1, column 7) is 0x93"),
    "a character cut off by its bytes": ('{"a":"é'.encode()[:-1], "byte 7 of the body (line 1, column 7) is 0xc3"),
    "half an emoji in three bytes": (b'{"a":"\xed\xa0\xbd"}', "byte 7 of the body (line 1, column 7) is 0xed"),
    "UTF-16, little-endian, with its mark": (CHAT.encode("utf-16"), "begins with the bytes ff fe: it is UTF-16"),
    "UTF-16, big-endian, with its mark": (b"\xfe\xff" + CHAT.encode("utf-16-be"), "the bytes fe ff: it is UTF-16"),
    "UTF-16, little-endian": (CHAT.encode("utf-16-le"), "the bytes 7b 00 0a 00: it looks like UTF-16"),
    "UTF-16, big-endian": (CHAT.encode("utf-16-be"), "the bytes 00 7b 00 0a: it looks like UTF-16"),
    "UTF-32": (CHAT.encode("utf-32"), "the bytes ff fe 00 00: it is UTF-32"),
    "UTF-32 without its mark": (CHAT.encode("utf-32-le"), "the bytes 7b 00 00 00: it looks like UTF-32"),
    "gzip": (gzip.compress(b"{}"), "the bytes 1f 8b: it is gzip, so send 'Content-Encoding: gzip'"),
    "zlib": (zlib.compress(b"{}"), "it is zlib, so send 'Content-Encoding: deflate'"),
    "zlib, quickly": (zlib.compress(b"{}", 1), "it is zlib, so send 'Content-Encoding: deflate'"),
    "zstd": (b"\x28\xb5\x2f\xfd\x20\x02", "it is zstd, so send 'Content-Encoding: zstd'"),
}


@pytest.mark.parametrize(("body", "said"), NAMED.values(), ids=NAMED)
def test_the_error_for_an_undecodable_body_shows_the_wrong_bytes(body: bytes, said: str) -> None:
    with pytest.raises(ApiError) as raised:
        read_object(body)
    assert (raised.value.status, raised.value.code) == (400, "invalid_json")
    assert said in raised.value.message
    assert len(raised.value.message) < 200


def test_a_json_error_gives_its_line_and_column_in_the_body_as_sent() -> None:
    with pytest.raises(ApiError, match=r"line 2, column 10\)"):
        read_object(b'{"a":"\\ud83d",\n "b": 123x}')


@a_share(of=5)
@given(st.text(min_size=1))
def test_valid_utf8_text_is_never_reported_as_another_encoding(text: str) -> None:
    wide = "\0" in text[:4]
    assert utf8_error(f'{{"{text}'.encode("utf-8", "replace")) is None or wide
