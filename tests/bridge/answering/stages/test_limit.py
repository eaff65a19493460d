"""An answer has at most the allowed number of tokens, exactly as usage counts them."""

from __future__ import annotations

from functools import partial

import orjson
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from staged import cut_at, run_stages

from bridge.answering.deltas import text_delta
from bridge.answering.stages.limit import Limit
from bridge.answering.tokens import TokenCount, estimate
from upstream.protocol.events import ReasoningDeltas, TextDeltas


@a_share(of=5)
@given(
    text=st.text(st.sampled_from("ab Z9.\n中é🦦"), max_size=80),
    tokens=st.integers(1, 30),
    places=st.lists(st.integers(1, 80)),
)
def test_a_limited_text_is_the_longest_prefix_within_the_token_limit(text: str, tokens: int, places: list[int]) -> None:
    answer = run_stages([partial(Limit, tokens)], cut_at(text, places))
    assert text.startswith(answer.text)
    assert estimate(answer.text) <= tokens
    is_cut = estimate(text) > tokens
    if is_cut:
        assert estimate(text[: len(answer.text) + 1]) > tokens
        assert answer.finish == "length"
    else:
        assert answer.text == text
        assert answer.finish == "stop"
    assert answer.stages.done == is_cut
    assert answer.stages.faithful != is_cut


characters = st.text(st.sampled_from("ab Z9.\n中é🦦"), min_size=1, max_size=9)


@a_share(of=5)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(characters, min_size=1, max_size=3)), max_size=12),
    st.integers(1, 200),
)
def test_text_and_reasoning_are_cut_where_their_total_reaches_the_token_limit(
    runs: list[tuple[bool, list[str]]], tokens: int
) -> None:
    limit, told, sent = Limit(tokens), {True: "", False: ""}, {True: "", False: ""}
    for is_text, deltas in runs:
        kind = TextDeltas if is_text else ReasoningDeltas
        event = kind("".join(deltas), b"\n".join(map(orjson.dumps, deltas)))
        for passed in limit.feed([event]):
            assert isinstance(passed, kind)
            told[is_text] += passed.text
        sent[is_text] += event.text
        assert sum(map(estimate, told.values())) <= tokens
        if limit.done:
            break
    assert limit.done == (sum(map(estimate, sent.values())) > tokens)
    if limit.done:
        more = {kind: told[kind] + sent[kind][len(told[kind]) :][:1] for kind in told}
        assert sum(map(estimate, more.values())) > tokens
    else:
        assert told == sent


def test_a_large_token_limit_is_met_exactly_in_small_deltas() -> None:
    limit, told = Limit(50_000), 0
    while not limit.done:
        told += sum(len(event.text) for event in limit.feed([text_delta("a word ")]) if isinstance(event, TextDeltas))
    assert estimate("a word " * (told // 7) + "a word "[: told % 7]) == 50_000


def test_reasoning_counts_towards_the_token_limit() -> None:
    limit = Limit(4)
    thought = "a thought of more tokens than that"
    (passed,) = limit.feed([ReasoningDeltas(thought, b'"a thought of more tokens than that"')])
    assert isinstance(passed, ReasoningDeltas)
    assert thought.startswith(passed.text)
    assert limit.done
    assert limit.finish_reason == "length"
    assert limit.feed([TextDeltas("text", b'"text"')]) == []


def test_text_gets_the_tokens_that_reasoning_has_left_over() -> None:
    limit = Limit(10)
    thought = ReasoningDeltas("thinking it over", b'"thinking it over"')
    assert limit.feed([thought]) == [thought]
    count = TokenCount()
    count.add("thinking it over")
    (text,) = limit.feed([TextDeltas("word " * 20, b'"' + b"word " * 20 + b'"')])
    assert isinstance(text, TextDeltas)
    assert estimate(text.text) + count.total == 10
