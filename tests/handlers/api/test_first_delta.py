"""The time to the first delta is recorded for every answer that has one, however it arrives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from request_log import RequestLog
from running import RunningBridge

from handlers.request.appkeys import STATS
from upstream.arena import Arena, Line, Raw, Step

STOP = Line("ad", {"finishReason": "stop"})
FAILED = Line("a3", "The model is tired")
HEARTBEAT = Line("a2", [{"type": "heartbeat"}])


def together(*lines: Line) -> Raw:
    """Lines that arrive in a single read."""
    return Raw(b"".join(line.encode() for line in lines))


COUNTED: dict[str, Sequence[Step]] = {
    "text and its end in one read": [together(Line("a0", "hello"), STOP)],
    "two deltas and their end in one read": [together(Line("a0", "hel"), Line("a0", "lo"), STOP)],
    "a thought, a text and their end in one read": [together(Line("ag", "hm"), Line("a0", "hello"), STOP)],
    "a thought alone": [together(Line("ag", "hm"), STOP)],
    "a text and a failure in one read": [together(Line("a0", "hello"), FAILED)],
    "a heartbeat, then all the rest in one read": [HEARTBEAT, together(Line("a0", "hello"), STOP)],
    "an empty delta, then all the rest in one read": [Line("a0", ""), together(Line("a0", "hello"), STOP)],
    "one line after the other": [Line("a0", "hel"), Line("a0", "lo"), STOP],
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("steps", COUNTED.values(), ids=COUNTED)
async def test_the_time_to_the_first_delta_is_recorded(
    steps: Sequence[Step], stream: bool, arena: Arena, bridge: RunningBridge, request_log: RequestLog
) -> None:
    arena.script = lambda _: list(steps)
    await (await bridge.post(bridge.chat("hi", stream=stream))).read()
    assert (await request_log.line())["ttft_ms"] >= 0
    assert bridge.app[STATS].stats.totals.ttft.total == 1


UNCOUNTED: dict[str, Sequence[Step]] = {
    "nothing but an end": [STOP],
    "nothing but a failure": [FAILED],
    "heartbeats and an end": [HEARTBEAT, HEARTBEAT, STOP],
}


@pytest.mark.parametrize("steps", UNCOUNTED.values(), ids=UNCOUNTED)
async def test_an_answer_without_a_delta_has_no_time_to_the_first_delta(
    steps: Sequence[Step], arena: Arena, bridge: RunningBridge, request_log: RequestLog
) -> None:
    arena.script = lambda _: list(steps)
    await (await bridge.post(bridge.chat("hi", stream=True))).read()
    assert "ttft_ms" not in await request_log.line()
