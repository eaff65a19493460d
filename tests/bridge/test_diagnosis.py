"""The vocabulary of diagnosis: the table in docs/words.md agrees with the advice that the bridge gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.diagnosis import ADVICE, CLOCK_ADVICE, advice_after, advice_on, explain, sentence, with_full_stop
from bridge.errors import from_upstream, message_in_stream
from upstream.protocol.errors import (
    IdsRefused,
    ModelFailed,
    Moderated,
    RateLimited,
    Reason,
    Redirected,
    UploadFailed,
    UpstreamError,
)

WORDS = Path(__file__).parents[2] / "docs" / "words.md"


def test_every_reason_has_advice_and_a_row_in_the_documented_table() -> None:
    lines = WORDS.read_text().splitlines()
    rows = [f"| `{reason.value}` | {advice.why} | {advice.now} |" for reason, advice in ADVICE.items()]
    assert set(ADVICE) == set(Reason)
    assert [row for row in rows if row not in lines] == []


def test_advice_is_a_clause_for_the_operator_and_a_sentence_for_callers() -> None:
    for advice in (*ADVICE.values(), CLOCK_ADVICE):
        assert not advice.why.endswith(".")
        assert not advice.now.endswith(".")
        assert advice.caller == sentence(advice.caller)


def test_advice_takes_the_kind_of_the_error_into_account() -> None:
    assert advice_on(Moderated("no")) == ADVICE[Reason.MODERATED]
    assert advice_on(ModelFailed("no")) == ADVICE[Reason.UPSTREAM_ERROR]
    assert advice_on(IdsRefused("no")) == CLOCK_ADVICE
    assert "text alone" in advice_on(UploadFailed("no")).now
    moved = advice_on(Redirected("no", origin="https://new.example"))
    assert 'upstream.base_url = "https://new.example"' in moved.now
    assert 'upstream.base_url = "https://new.example"' in moved.caller


def test_advice_on_a_rate_limit_depends_on_whether_it_is_the_keys_or_the_sites() -> None:
    here, there = (advice_after(Reason.RATE_LIMITED, refused_here=here).now for here in (True, False))
    assert ("raise the key's limits" in here, "add an account" in here) == (True, False)
    assert ("raise the key's limits" in there, "add an account" in there) == (False, True)
    assert advice_after(Reason.MODERATED, refused_here=False) == ADVICE[Reason.MODERATED]


@pytest.mark.parametrize("message", ["The prompt was refused", "The prompt was refused."])
def test_an_error_message_ends_with_advice_to_the_caller(message: str) -> None:
    error: UpstreamError = Moderated(message)
    assert from_upstream(error).message == "The prompt was refused. Change the prompt."


def test_an_explanation_ends_with_advice_to_the_operator() -> None:
    assert explain(Moderated("No")) == "No. Change the prompt."
    assert explain(Moderated("No."), CLOCK_ADVICE) == "No. Set the clock by NTP; meanwhile the bridge corrects its ids."


@pytest.mark.parametrize(
    ("text", "with_stop", "whole"),
    [
        ("all is well", "all is well.", "All is well."),
        ("is it?", "is it?", "Is it?"),
        ("`code` first", "`code` first.", "`code` first."),
        ("好。", "好。", "好。"),
    ],
)
def test_sentences_get_a_full_stop_and_a_capital_letter(text: str, with_stop: str, whole: str) -> None:
    assert (with_full_stop(text), sentence(text)) == (with_stop, whole)


def test_messages_in_a_stream_state_the_seconds_to_wait() -> None:
    known = from_upstream(RateLimited("LMArena limits this account.", retry_after=17.2))
    assert "Wait as long as Retry-After says." in known.message
    assert "Wait 18 s." in message_in_stream(known)
    unknown = from_upstream(RateLimited("LMArena limits this account.", retry_after=None))
    assert "Wait a while." in unknown.message
    assert "Retry-After" not in message_in_stream(unknown)
