"""Measures how the bridge's cost grows with its load and its stored state."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.measure import Sample, warm
from bench.report import Section, Target
from bench.scenarios import Play, Scenario
from bench.stored_state import StoredState
from bench.subjects import our_bridge
from bridge.answering.conversations import CAPACITY

#: More rounds would not change the conclusions.
_ROUNDS: Final = 3
#: Enough requests to span a few saves of the statistics.
_REQUESTS: Final = Scenario("growth", "", "request", Play(20, 0), 2000, 8)
#: The tools of a large agent: their number, the total size of their schemas in bytes, and the size in bytes of the
#: arguments of a call that writes a large file.
_TOOLS: Final = 128
_SCHEMAS: Final = 100_000
_ARGUMENTS: Final = 200_000


@dataclass(frozen=True, slots=True)
class _Point:
    """One size of one quantity that may grow."""

    axis: str
    size: str
    scenario: Scenario = _REQUESTS
    stored: StoredState = StoredState()  # noqa: RUF009 — frozen
    target: Target | None = None  # for the ratio of its cost to that of the smallest size


def _points() -> Iterator[_Point]:
    for streams in (1, 10, 100, 1000, 5000):
        scenario = Scenario("hold", "", "stream", Play(10, 1), streams, streams, spread=streams / 500)
        yield _Point("open streams", f"{streams:,}", scenario)
    for characters in (1_000, 10_000, 50_000, 110_000):
        scenario = Scenario(
            "history", "", "request", Play(20, 0), 100, 4, messages=characters // 1000, characters=characters
        )
        yield _Point("characters of history", f"{characters:,}", scenario)
    tools = Scenario(
        "tools", "", "request", Play(20, 0), 100, 4, tools=_TOOLS, schema_bytes=_SCHEMAS // _TOOLS, tools_as_text=True
    )
    for form, as_text in (("as text", True), ("as tools", False)):
        axis, target = f"{_TOOLS} tools, {_SCHEMAS:,} bytes", None if as_text else Target(at_most=3)
        yield _Point(axis, form, replace(tools, tools_as_text=as_text), target=target)
    text = Scenario("call", "", "request", Play(_ARGUMENTS // 8, 0), 20, 4, streamed=False)
    call = replace(text, play=Play(_ARGUMENTS // 8, 0, called=True), tools=1)
    for form, scenario in (("as text", text), ("as a call", call)):
        yield _Point(f"{_ARGUMENTS:,} bytes of answer", form, scenario)
    for keys in (1, 100, 10_000):
        yield _Point("API keys", f"{keys:,}", stored=StoredState(keys=keys))
    for conversations in (1, 1_000, CAPACITY):
        yield _Point("conversations", f"{conversations:,}", stored=StoredState(conversations=conversations))
    for age, statistics_ in (("none", False), ("two years", True)):
        yield _Point("statistics", age, stored=StoredState(statistics=statistics_))


async def grown(rounds: int, upstream_port: int, say: Callable[[str], None]) -> Section:
    """Measure every point."""
    samples: dict[_Point, list[Sample]] = defaultdict(list)
    rounds = min(rounds, _ROUNDS)
    for at in range(rounds):
        for point in _points():
            say(f"growth, round {at + 1}: {point.size} {point.axis}")
            async with warm(our_bridge(stored=point.stored), upstream_port) as bridge:
                samples[point].append(await bridge.measure(point.scenario))
    table = [("what grows", "to", "CPU per request, ms", "of the smallest", "memory in all, MiB")]
    smallest: dict[str, float] = {}
    for point, measured in samples.items():
        cpu = statistics.median(it.cpu for it in measured) * 1e3 / point.scenario.streams
        peak = statistics.median(it.peak for it in measured)
        of_smallest = cpu / smallest.setdefault(point.axis, cpu)
        judged = "" if point.target is None else f" ({point.target.judged(of_smallest)})"
        table.append((point.axis, point.size, f"{cpu:.3g}", f"{of_smallest:.2f} ×{judged}", f"{peak / 2**20:.1f}"))
    return Section("How cost grows", table, _notes(rounds))


def _notes(rounds: int) -> Sequence[str]:
    return [
        f"medians of {rounds} rounds; memory is the peak resident size",
        "open streams: each lasts ten seconds, with a delta a second; a single one includes the daemon's idle cost",
        "characters of history: in messages of a thousand, each request a new evaluation",
        "tools: as text they stand in the message. Answer: in deltas of 8, not streamed",
        f"the others: {_REQUESTS.streams:,} requests of {_REQUESTS.play.deltas} deltas, {_REQUESTS.at_once} at once",
        f"conversations: the table holds at most {CAPACITY:,}; when it is full, each request evicts the oldest",
        "statistics of two years: a row in every period, and every table full with 500 names",
    ]
