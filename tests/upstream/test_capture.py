"""Capturing bodies within a memory limit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from upstream.capture import CapturedBody


def added(body: CapturedBody) -> Callable[[bytes], None]:
    return body.add


def taken(body: CapturedBody) -> Callable[[bytes], None]:
    arrived: list[bytes] = []
    take = body.taking(arrived.pop)

    def arrive(data: bytes) -> None:
        arrived.append(data)
        assert take() == data

    return arrive


@pytest.mark.parametrize("way", [added, taken])
def test_capturing_stops_after_a_piece_that_exceeds_the_limit(
    way: Callable[[CapturedBody], Callable[[bytes], None]],
) -> None:
    body = CapturedBody(1000)
    capture = way(body)
    capture(b"a" * 300)
    capture(b"b" * 300)
    assert (body.size, body.cut) == (800, False)
    capture(b"c" * 300)
    capture(b"d")
    assert (body.size, body.cut) == (1000, True)
    assert [data for _, data in body.pieces(0.0)] == [b"a" * 300, b"b" * 300]


def test_an_empty_read_captures_nothing() -> None:
    body = CapturedBody(1000)
    assert body.taking(lambda: b"")() == b""
    assert (body.size, body.pieces(0.0)) == (0, ())
