"""Compares the bridge's APIs: the cost of the same chat through each of them, relative to chat completions."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from bench.measure import Sample, warm
from bench.report import Section, Target
from bench.requests import completions_requests, messages_requests, responses_requests
from bench.scenarios import Play, Scenario
from bench.subjects import Subject, our_bridge
from bench.upstream import TEXT

#: The API with which the others are compared.
_CHAT: Final = "chat"
_TARGET: Final = Target(at_most=1.3)

#: Many deltas in one read, deltas one by one, and requests with short answers, which measure the fixed cost.
_SCENARIOS: Final = (
    Scenario("burst", "5 streams of 20,000 deltas at once, one after another", "delta", Play(20_000, 0), 5, 1),
    Scenario("paced", "100 streams of 200 deltas, 10 ms apart", "delta", Play(200, 0.01), 100, 100, spread=1),
    Scenario("short", "1,000 requests of 20 deltas, 8 at once", "request", Play(20, 0), 1000, 8),
)


def _subjects() -> dict[str, Subject]:
    """The bridge, called through each API. A Responses stream repeats its text at the end; only deltas are counted."""
    ours = our_bridge()
    return {
        _CHAT: ours,
        "responses": replace(ours, requests=responses_requests, mark=b'"delta":"' + TEXT),
        "messages": replace(ours, requests=messages_requests),
        "completions": replace(ours, requests=completions_requests),
    }


async def spoken(rounds: int, upstream_port: int, say: Callable[[str], None]) -> Section:
    """Measure each API in each scenario, in rounds that alternate between the APIs."""
    samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for scenario in _SCENARIOS:
        for at in range(rounds):
            say(f"dialects, {scenario.name}, round {at + 1}: {scenario.about}")
            for api, subject in _subjects().items():
                async with warm(subject, upstream_port) as bridge:
                    samples[scenario.name, api].append(await bridge.measure(scenario))
    apis = [*_subjects()]
    table = [["scenario", "CPU", *apis], *[_row(scenario, apis, samples) for scenario in _SCENARIOS]]
    return Section("Each API beside chat completions", table, _notes(rounds))


def _row(scenario: Scenario, apis: Sequence[str], samples: dict[tuple[str, str], list[Sample]]) -> list[str]:
    per_delta = scenario.unit == "delta"
    count = scenario.streams * (scenario.play.deltas if per_delta else 1)
    costs = {api: statistics.median(it.cpu for it in samples[scenario.name, api]) / count for api in apis}
    row = [scenario.name, "per delta, µs" if per_delta else "per request, ms"]
    for api, cost in costs.items():
        figure = f"{cost * (1e6 if per_delta else 1e3):.3g}"
        ratio = cost / costs[_CHAT]
        row.append(figure if api == _CHAT else f"{figure} ({ratio:.2f} ×, {_TARGET.judged(ratio)})")
    return row


def _notes(rounds: int) -> Sequence[str]:
    return [
        f"medians of {rounds} rounds; (×): ratio to chat completions",
        *[f"{scenario.name}: {scenario.about}" for scenario in _SCENARIOS],
        "responses: each is stored, and the end of its stream repeats all of it, as the API has it",
        "messages: `max_tokens` is required there, so its tokens are counted as they come",
    ]
