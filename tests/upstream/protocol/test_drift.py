"""Unknown things are counted by kind, and each kind is announced once, whatever names upstream sends."""

from __future__ import annotations

from collections.abc import Mapping

from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from upstream.protocol.drift import MAX_KIND_CHARS, MAX_KINDS, OTHER, Drift, KindCounter


def test_unknown_kinds_of_all_answers_are_added_up_and_announced_once() -> None:
    announced: list[str] = []
    drift = Drift(announced.append)
    drift.note({"tag ah": 2, "no tag": 1})
    drift.note({})
    drift.note({"tag ah": 3, "item routed_model": 1})
    assert drift.counts == {"tag ah": 5, "no tag": 1, "item routed_model": 1}
    assert announced == ["tag ah", "no tag", "item routed_model"]


def test_an_unknown_kind_is_counted_before_it_is_announced() -> None:
    seen: list[Mapping[str, int]] = []
    drift = Drift(lambda _: seen.append(dict(drift.counts)))
    drift.note({"tag ah": 2})
    assert seen == [{"tag ah": 2}]


def test_unknown_kinds_beyond_fifty_are_counted_and_announced_together_as_other() -> None:
    announced: list[str] = []
    drift = Drift(announced.append)
    drift.note({f"item {number}": 1 for number in range(60)})
    drift.note({"item 60": 5, "item 0": 1})
    named = [f"item {number}" for number in range(50)]
    assert drift.counts == dict.fromkeys(named, 1) | {"item 0": 2, OTHER: 15}
    assert announced == [*named, OTHER]


def test_the_kind_other_of_an_answer_does_not_count_as_a_kind() -> None:
    drift = Drift(lambda _: None)
    drift.note({OTHER: 4} | {f"item {number}": 1 for number in range(51)})
    assert drift.counts == {OTHER: 5} | {f"item {number}": 1 for number in range(50)}


def test_kinds_whose_truncated_names_are_equal_are_counted_as_one() -> None:
    kinds = KindCounter(20)
    assert kinds.add("item " + "x" * 40) == "item " + "x" * 25
    assert kinds.add("item " + "x" * 50) is None
    assert kinds.counts == {"item " + "x" * 25: 2}


kinds_of_an_answer = st.dictionaries(st.text(max_size=2 * MAX_KIND_CHARS), st.integers(1, 100))


@a_share(of=10)
@given(answers=st.lists(kinds_of_an_answer, max_size=8))
def test_every_unknown_kind_is_counted_and_names_stay_printable_and_few(answers: list[dict[str, int]]) -> None:
    announced: list[str] = []
    drift = Drift(announced.append)
    for kinds in answers:
        drift.note(kinds)
    assert sum(drift.counts.values()) == sum(sum(kinds.values()) for kinds in answers)
    assert announced == list(drift.counts)
    assert len(drift.counts) <= MAX_KINDS + 1
    for name in drift.counts:
        assert len(name) <= MAX_KIND_CHARS
        assert name.isascii()
        assert name.isprintable()
