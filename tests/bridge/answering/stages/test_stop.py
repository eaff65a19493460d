"""Stop strings end a text just before the first of them, wherever its deltas begin and end."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import Any

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from staged import StagedAnswer, cut_at, run_stages

from bridge.answering.deltas import text_delta
from bridge.answering.events import ToolCalls
from bridge.answering.messages import ToolCall
from bridge.answering.stages.stop import Stop
from bridge.answering.stages.stop_strings import StopStrings
from upstream.protocol.events import Images, ReasoningDeltas

TEXT = "one END two"


def stopped(pieces: list[str], *stops: str) -> StagedAnswer:
    return run_stages([partial(Stop, stops)], pieces)


@pytest.mark.parametrize("place", range(len(TEXT) + 1))
def test_a_stop_string_is_found_at_every_place_and_across_every_cut(place: int) -> None:
    text = TEXT[:place].replace("END", "eND") + "<STOP>" + TEXT[place:]
    for cuts in [*combinations(range(1, len(text)), 1), *combinations(range(1, len(text)), 2), range(len(text))]:
        answer = stopped(cut_at(text, cuts), "<STOP>")
        assert answer.text == text[: text.index("<STOP>")]
        assert answer.finish == "stop"
        assert answer.stages.done
        assert not answer.stages.faithful


@a_share(of=5)
@given(
    text=st.text("ab\n", max_size=30),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=5),
    places=st.lists(st.integers(1, 30)),
)
def test_the_stop_string_that_is_complete_first_ends_the_text(text: str, stops: list[str], places: list[int]) -> None:
    ends = [end for end in range(len(text) + 1) if text[:end].endswith(tuple(stops))]
    if ends:
        longest = max(len(stop) for stop in stops if text[: ends[0]].endswith(stop))
        expected = text[: ends[0] - longest]
    else:
        expected = text
    answer = stopped(cut_at(text, places), *stops)
    assert answer.text == expected
    assert answer.stages.done == bool(ends)
    assert answer.stages.faithful != bool(ends)


class CountedReads(list[int]):
    """A list that counts how often it is read."""

    reads = 0

    def __getitem__(self, place: Any) -> Any:
        self.reads += 1
        return super().__getitem__(place)


@pytest.mark.parametrize("stop", ["a" * 5000 + "b", "ab" * 2500 + "c", "a" * 2500 + "b" + "a" * 2500])
def test_a_long_stop_string_is_searched_for_in_linear_time(stop: str) -> None:
    strings = StopStrings([stop, f"{stop}no"])
    strings._fallbacks = counted = CountedReads(strings._fallbacks)  # type: ignore[assignment]
    text = stop[:-1] * 3
    assert [strings.feed(text[at : at + 7]) for at in range(0, len(text), 7)].count(None) > len(text) // 8
    assert counted.reads <= len(text) + 2 * len(stop)


def test_only_text_that_may_begin_a_stop_string_is_held_back() -> None:
    answer = stopped(["one E", "N", "d two EN"], "END")
    assert answer.deltas == ["one ", "ENd two "]
    assert answer.late == ["EN"]


def test_a_delta_that_cannot_begin_a_stop_string_is_passed_on_as_the_same_object() -> None:
    delta = text_delta("one")
    (passed,) = Stop(["END"]).feed([delta])
    assert passed is delta


def test_stop_strings_in_reasoning_are_ignored_and_images_keep_their_place() -> None:
    stage = Stop(["END"])
    thought = ReasoningDeltas("END", b'"END"')
    picture = Images(("https://example.org/1.png",))
    assert stage.feed([thought]) == [thought]
    assert stage.feed([text_delta("a E"), picture]) == [text_delta("a "), text_delta("E"), picture]


def test_text_held_back_for_a_stop_string_is_sent_before_tool_calls() -> None:
    stage = Stop(["END"])
    calls = ToolCalls((ToolCall("call_1", "now", "{}"),))
    assert stage.feed([text_delta("a E"), calls]) == [text_delta("a "), text_delta("E"), calls]
    assert stage.end() == []
