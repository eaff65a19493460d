"""Every id is a lower-case UUIDv7, and each is later than the one before."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from uuid import UUID

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from upstream.protocol.ids import Uuid7Source
from upstream.random_bytes import RandomBytes

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_the_uuid_source_reproduces_the_example_of_rfc_9562() -> None:
    rand_a, rand_b = 0xCC3, 0x18C4DC0C0C07398F
    new_id = Uuid7Source(lambda: 1645557742.0, lambda size: (rand_a << 68 | rand_b << 6).to_bytes(size))
    assert new_id() == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_ids_grow_with_the_real_clock() -> None:
    new_id = Uuid7Source(time.time)
    ids = [new_id() for _ in range(5000)]
    assert all(earlier < later for earlier, later in pairwise(ids))
    assert all(UUID7.fullmatch(each) for each in ids)


@a_share(of=4)
@given(st.lists(st.floats(min_value=0, max_value=4e9), min_size=2), st.randoms(use_true_random=False))
def test_ids_grow_with_any_clock(times: list[float], random: object) -> None:
    clock = iter(times)
    new_id = Uuid7Source(lambda: next(clock), random.randbytes)  # type: ignore[attr-defined]  # st.randoms is untyped
    ids = [new_id() for _ in times]
    assert all(earlier < later for earlier, later in pairwise(ids))
    assert all(UUID7.fullmatch(each) and UUID(each).version == 7 for each in ids)


@pytest.mark.parametrize("bit", [0, 1], ids=["all random bits zero", "all random bits one: the step carries"])
def test_ids_grow_while_the_clock_stands_still(bit: int) -> None:
    new_id = Uuid7Source(lambda: 1.7e9, lambda size: bytes([255 * bit]) * size)
    ids = [new_id() for _ in range(100)]
    assert all(earlier < later for earlier, later in pairwise(ids))
    assert all(UUID7.fullmatch(each) for each in ids)


def test_two_sources_never_give_the_same_id() -> None:
    first, second = Uuid7Source(lambda: 1.7e9), Uuid7Source(lambda: 1.7e9)
    assert not {first() for _ in range(100)} & {second() for _ in range(100)}


def test_random_bytes_have_the_requested_size_and_never_repeat() -> None:
    random_bytes = RandomBytes()
    drawn = [random_bytes(size) for size in (16, 10, 4, 12) * 200]  # 8,400 bytes: more than are fetched at once
    assert [len(each) for each in drawn] == [16, 10, 4, 12] * 200
    assert len({each for each in drawn if len(each) > 4}) == 600


def test_ids_follow_a_clock_that_was_set_back_only_on_demand() -> None:
    now = [1.7e9]
    new_id = Uuid7Source(lambda: now[0])
    ahead = new_id()
    now[0] -= 7200
    assert new_id() > ahead
    new_id.follow_clock()
    assert seconds_of(new_id()) == pytest.approx(now[0], abs=1)


@a_share(of=4)
@given(st.lists(st.floats(min_value=0, max_value=4e9), min_size=3))
def test_ids_for_a_chat_are_later_than_its_last_one_with_any_clock(times: list[float]) -> None:
    clock = iter(times)
    new_id = Uuid7Source(lambda: next(clock))
    ids = [new_id()]
    for _ in times[1:]:
        new_id.follow_clock()
        ids.append(new_id.later_than(ids[-1])())
    assert all(earlier < later for earlier, later in pairwise(ids))
    assert all(UUID7.fullmatch(each) for each in ids)


def test_ids_later_than_an_old_one_have_the_current_time() -> None:
    new_id = Uuid7Source(lambda: 1.7e9)
    first = new_id()
    later = Uuid7Source(lambda: 1.8e9).later_than(first)
    assert seconds_of(later()) == 1.8e9
    assert later() < later()


@pytest.mark.parametrize("other", ["", "ev-9", "017f22e2-79b0-4cc3-98c4-dc0c0c07398f", "f" * 36, "\ud800"])
def test_a_previous_id_of_another_form_does_not_affect_the_next_id(other: str) -> None:
    assert seconds_of(Uuid7Source(lambda: 1.7e9).later_than(other)()) == 1.7e9


def seconds_of(id_: str) -> float:
    """The time in an id, in unix seconds."""
    return int(id_.replace("-", "")[:12], 16) / 1000
