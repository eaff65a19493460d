"""Compares the bridge with the other subjects: medians of all rounds, ratios to the pipe, and targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.load import Lost
from bench.measure import Sample, Samples
from bench.report import Section, Target
from bench.scenarios import Scenario
from bench.subjects import BRIDGE, Subject

_LITELLM: Final = "litellm"


@dataclass(frozen=True, slots=True)
class _Measure:
    """One figure that is computed from a sample; `targets` maps the names of scenarios to targets.

    `added`: the value without a proxy is subtracted. `of_load`: the figure is invalid if fewer streams were open than
    intended.
    """

    name: str
    value: Callable[[Sample], float]
    targets: Mapping[str, Target]
    added: bool = False
    of_load: bool = False

    def median(self, scenario: Scenario, samples: Sequence[Sample | Lost]) -> float:
        """The median of all rounds; NaN if a round was lost, none was run, or the figure is invalid."""
        values = [math.nan]
        if not any(isinstance(it, Lost) or (self.of_load and it.scenario.at_once < scenario.at_once) for it in samples):
            values = [self.value(it) for it in samples if not isinstance(it, Lost)] or values
        return statistics.median(values)


def _quantile(values: Sequence[float], share: float) -> float:
    """The quantile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]


def _ttft(percent: int, at_most: float) -> _Measure:
    return _Measure(
        f"TTFT added, p{percent}, ms",
        lambda it: _quantile(it.ttfts, percent / 100) * 1e3,
        dict.fromkeys(("alone", "natural", "together"), Target(at_most=at_most)),
        added=True,
        of_load=True,
    )


_CPU_PER_DELTA: Final = _Measure(
    "CPU per delta, µs",
    lambda it: it.cpu * 1e6 / it.scenario.streams / it.scenario.play.deltas,
    {"burst": Target(at_most=2), "burst-16k": Target(at_most=2), "natural": Target(at_most=1.2)},
)
_CPU_PER_REQUEST: Final = _Measure(
    "CPU per request, ms",
    lambda it: it.cpu * 1e3 / it.scenario.streams,
    {"short": Target(at_most=1.5), "history": Target(at_most=4), "history-whole": Target(at_most=3)},
)
_MEMORY: Final = _Measure(
    "memory per stream, KiB",
    lambda it: it.memory / 1024 / it.scenario.at_once,
    dict.fromkeys(("hold-500", "hold-2000", "hold-5000"), Target(at_most=1.5)),
)
_TTFT: Final = (_ttft(50, 1.5), _ttft(99, 2))
_LATE: Final = _Measure(
    "delta late by, p99, ms",
    lambda it: _quantile(it.lateness, 0.99) * 1e3,
    {"hold-2000": Target(at_most=100, unit="ms")},
    of_load=True,
)
#: The expected ratio of LiteLLM's CPU time to the bridge's, by scenario.
_LITELLM_TARGETS: Final = dict.fromkeys(("burst", "natural", "short", "history"), Target(at_least=15))


def _measures(scenario: Scenario) -> Iterator[_Measure]:
    yield _CPU_PER_REQUEST if scenario.unit == "request" else _CPU_PER_DELTA
    if scenario.unit == "stream":
        yield _MEMORY
    elif scenario.play.interval or (scenario.unit == "request" and scenario.at_once in (1, scenario.streams)):
        yield from _TTFT  # meaningless for a process that is overloaded all the time
    if scenario.play.interval:
        yield _LATE


def needs_direct(scenario: Scenario) -> bool:
    """Whether the scenario must be measured without a proxy, too."""
    return any(measure.added for measure in _measures(scenario))


def compared(scenarios: Sequence[Scenario], subjects: Sequence[Subject], samples: Samples, rounds: int) -> Section:
    """Make the table. The first subject must be the one without a proxy, the second a pipe; one must be the bridge."""
    names = [subject.name for subject in subjects]
    rows = [_row(scenario, measure, names, samples) for scenario in scenarios for measure in _measures(scenario)]
    notes = [f"medians of {rounds} interleaved rounds; (×): ratio to {names[1]}"]
    notes += [_about(scenario, rounds, few=_LITELLM in names) for scenario in scenarios]
    notes += [
        "CPU time is the process's own, user and system",
        "TTFT is in addition to that without a proxy; a delta is late by the time since upstream sent it",
        "a figure is shown only if every delta of every round arrived without an error",
    ]
    notes += [
        f"{scenario}, {name}: {it}" for (scenario, name), of in samples.items() for it in of if isinstance(it, Lost)
    ]
    return Section("Beside a bare pipe", [["scenario", "measure", *_columns(names)], *rows], notes)


def _columns(names: Sequence[str]) -> Iterator[str]:
    for name in names[1:]:
        yield name
        if name == BRIDGE:
            yield "target"
    if _LITELLM in names:
        yield "litellm, of the bridge's"


def _about(scenario: Scenario, rounds: int, *, few: bool) -> str:
    about = f"{scenario.name}: {scenario.about}"
    if few and scenario.few:
        fitting = scenario.with_few()
        about += f" (litellm: {fitting.streams}, {fitting.at_once} at once)"
    return about if scenario.times == 1 else f"{about}; {rounds * scenario.times} rounds"


def _row(scenario: Scenario, measure: _Measure, names: Sequence[str], samples: Samples) -> list[str]:
    direct, pipe, *_ = names
    medians = {name: measure.median(scenario, samples.get((scenario.name, name), ())) for name in names}
    base = medians[direct] if measure.added else 0.0
    figures = {name: medians[name] - base for name in names[1:]}
    row = [scenario.name, measure.name]
    for name, figure in figures.items():
        ratio = figure / figures[pipe]
        row.append("–" if math.isnan(ratio) else f"{figure:.3g}" + (f" ({ratio:.2f} ×)" if name != pipe else ""))
        if name == BRIDGE:
            target = measure.targets.get(scenario.name)
            row.append("" if target is None else target.judged(ratio if target.unit == "×" else figure))
    if _LITELLM in figures:
        ratio = figures[_LITELLM] / figures[BRIDGE]
        target = _LITELLM_TARGETS.get(scenario.name) if measure in (_CPU_PER_DELTA, _CPU_PER_REQUEST) else None
        row.append("" if math.isnan(ratio) else f"{ratio:.3g} ×" + (f" ({target.judged(ratio)})" if target else ""))
    return row
