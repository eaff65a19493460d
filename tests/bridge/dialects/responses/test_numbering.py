"""A run of delta events is encoded like its events one by one, whatever their numbers."""

from __future__ import annotations

from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialects.responses.numbering import DeltaEvent

EVENT = DeltaEvent(b"event: a\ndata: {1", b",2", b"}\n\n")
numbers = st.integers(0, 3000) | st.integers(0, 10**9) | st.sampled_from([998, 999, 1000, 1999, 999_999])


@a_share(of=50)
@given(first=numbers, count=st.integers(1, 40) | st.sampled_from([1001, 2500]), delta=st.binary(max_size=5))
def test_a_run_of_events_is_encoded_like_its_events_one_by_one(first: int, count: int, delta: bytes) -> None:
    deltas = [b"%b%d" % (delta, place) for place in range(count)]
    alone = [b"event: a\ndata: {1%d,2%b}\n\n" % (first + place, each) for place, each in enumerate(deltas)]
    assert EVENT.run(first, deltas) == b"".join(alone)
    assert [EVENT.one(first + place, each) for place, each in enumerate(deltas)] == alone
