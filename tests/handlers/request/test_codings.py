"""Decoding compressed bodies: packed data is restored, and broken or endless data is refused."""

from __future__ import annotations

import gzip
import random
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress

import brotli
import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from handlers.request.codings import CODINGS, BrokenCoding, DecodedTooLong, decode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": zstd.compress,
}
LIMIT = 1024 * 1024
#: Longer than one step of decoding, both packed and unpacked.
LONG = random.Random(1).randbytes(300_000) + b" " * 500_000


def test_the_tests_cover_every_coding() -> None:
    assert PACK.keys() == CODINGS.keys()


@pytest.mark.parametrize("coding", PACK)
class TestCodings:
    @a_share(of=5)
    @given(st.binary(max_size=2000), st.integers(1, 200))
    def test_packed_data_is_decoded(self, coding: str, data: bytes, times: int) -> None:
        assert decode(PACK[coding](data * times), coding, LIMIT) == data * times

    @a_share(of=5)
    @given(st.binary(min_size=1, max_size=2000), st.data())
    def test_a_truncated_body_is_broken(self, coding: str, data: bytes, drawn: st.DataObject) -> None:
        packed = PACK[coding](data)
        with pytest.raises(BrokenCoding):
            decode(packed[: drawn.draw(st.integers(0, len(packed) - 1))], coding, LIMIT)

    @a_share(of=5)
    @given(st.binary(max_size=300))
    def test_any_bytes_are_decoded_or_reported_as_broken(self, coding: str, data: bytes) -> None:
        with suppress(BrokenCoding):
            assert len(decode(data, coding, LIMIT)) <= LIMIT

    def test_a_long_body_is_decoded_whole_or_reported_as_too_long_or_broken(self, coding: str) -> None:
        packed = PACK[coding](LONG)
        assert decode(packed, coding, len(LONG)) == LONG
        with pytest.raises(DecodedTooLong):
            decode(packed, coding, len(LONG) - 1)
        for size in (len(packed) - 1, len(packed) // 2, 70_000):
            with pytest.raises(BrokenCoding):
                decode(packed[:size], coding, LIMIT)

    def test_data_after_the_end_is_broken(self, coding: str) -> None:
        for junk in (b"junk", b"\0" * 100_000):
            with pytest.raises(BrokenCoding):
                decode(PACK[coding](LONG) + junk, coding, LIMIT)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_concatenated_members_are_decoded_up_to_a_bound(coding: str) -> None:
    pack = PACK[coding]
    assert decode(pack(b"a") + pack(LONG) + pack(b"b"), coding, LIMIT) == b"a" + LONG + b"b"
    with pytest.raises(BrokenCoding, match="too many"):
        decode(pack(b"a") * 1000, coding, LIMIT)


def test_raw_deflate_without_a_zlib_header_is_decoded() -> None:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    assert decode(compressor.compress(LONG) + compressor.flush(), "deflate", LIMIT) == LONG
