"""Unknown parts of the site's answers disturb nothing, are counted, and are logged once per kind."""

from __future__ import annotations

import logging

import pytest
from answered import ask
from running import RunningBridge

from handlers.request.appkeys import DRIFT
from upstream.arena import Arena, Eof, Line

PROMPT = "/say one two three four five"
TEXT = "one two three four five"
STOP = Line("ad", {"finishReason": "stop"})

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])

#: Fault → what is counted after one answer.
KINDS: dict[str, dict[str, int]] = {
    "unknown_tags": {"tag ah": 1, "tag ak": 1, "tag zz": 1, "tag b0": 1},
    "unknown_items": {"item routed_model": 1, "item webdev": 1, "item never-heard-of": 1},
    "no_tag_line": {"no tag": 1},
    "text_after_finish": {"late line": 1},
    "double_finish": {"late line": 1},
    "heartbeats": {},
    "data_prefix": {},
    "explained_empty": {},
}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING
        and "LMArena sent something that this version does not know" in record.getMessage()
    ]


@streamed_and_not
@pytest.mark.parametrize(("fault", "kinds"), KINDS.items(), ids=KINDS)
async def test_each_unknown_kind_is_counted_and_logged_once(
    fault: str,
    kinds: dict[str, int],
    stream: bool,
    arena: Arena,
    bridge: RunningBridge,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for answers in (1, 2):
        arena.faults.arm(fault)
        answer = await ask(bridge, f"{PROMPT} {answers}", stream=stream)
        assert (answer.is_good, answer.text) == (True, f"{TEXT} {answers}")
        assert bridge.app[DRIFT].counts == {kind: count * answers for kind, count in kinds.items()}
    assert warnings(caplog) == [
        f"LMArena sent something that this version does not know; it is skipped: {kind}" for kind in kinds
    ]


async def test_unknown_kinds_in_answers_that_failed_before_any_text_are_counted(
    arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = lambda _: [Line("zz", 1), Line("a3", "Tired")]
    assert (await ask(bridge, "hello")).status == 502
    assert bridge.app[DRIFT].counts == {"tag zz": 2}  # from both attempts


async def test_unknown_kinds_in_answers_that_broke_off_are_counted(arena: Arena, bridge: RunningBridge) -> None:
    arena.script = lambda _: [Line("a0", "one"), Line("zz", 1), Line("a0", "two"), Eof()]
    assert (await ask(bridge, "hello")).status == 502
    assert bridge.app[DRIFT].counts == {"tag zz": 1}


async def test_the_count_of_distinct_unknown_kinds_is_bounded(
    arena: Arena, bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    for answers in range(5):
        unknown = [Line(f"{answers}{letter}", 1) for letter in "abcdefghijklmnopqrst"]
        arena.script = lambda _, unknown=unknown: [Line("a0", "one"), *unknown, STOP]
        assert (await ask(bridge, f"hello {answers}")).is_good
    assert len(bridge.app[DRIFT].counts) == len(warnings(caplog)) == 51
    assert sum(bridge.app[DRIFT].counts.values()) == 100
