"""The table: medians of all rounds, and what they are of the pipe's."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, TypeAlias

import psutil

from bench.scenarios import Scenario
from bench.subjects import Subject


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: the process's CPU time (seconds) and growth in memory (bytes); sorted times (seconds)."""

    cpu: float
    memory: int
    ttfts: Sequence[float]
    lateness: Sequence[float]


Samples: TypeAlias = Mapping[tuple[str, str], Sequence[Sample]]  # by scenario and subject


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them are; they are sorted."""
    return values[min(len(values) - 1, int(len(values) * share))]


@dataclass(frozen=True, slots=True)
class _Measure:
    name: str
    value: Callable[[Scenario, Sample], float]
    added: bool = False  # over what is measured without a proxy


_CPU_PER_DELTA: Final = _Measure(
    "CPU per delta, µs", lambda scenario, it: it.cpu * 1e6 / scenario.streams / scenario.play.deltas
)
_CPU_PER_REQUEST: Final = _Measure("CPU per request, ms", lambda scenario, it: it.cpu * 1e3 / scenario.streams)
_MEMORY: Final = _Measure("memory per stream, KiB", lambda scenario, it: it.memory / 1024 / scenario.at_once)
_OF_UNIT: Final[Mapping[str, tuple[_Measure, ...]]] = {
    "delta": (_CPU_PER_DELTA,),
    "request": (_CPU_PER_REQUEST,),
    "stream": (_CPU_PER_DELTA, _MEMORY),
}
_TTFT: Final = (
    _Measure("TTFT added, p50, ms", lambda _, it: quantile(it.ttfts, 0.5) * 1e3, added=True),
    _Measure("TTFT added, p99, ms", lambda _, it: quantile(it.ttfts, 0.99) * 1e3, added=True),
)
_LATE: Final = _Measure("delta late by, p99, ms", lambda _, it: quantile(it.lateness, 0.99) * 1e3, added=True)


def _latencies(scenario: Scenario) -> tuple[_Measure, ...]:
    """Times that mean something: not those of a process that is given more than it can do at once."""
    if scenario.play.interval:
        return *_TTFT, _LATE
    return _TTFT if scenario.unit == "request" and scenario.at_once == 1 else ()


def rows(scenarios: Sequence[Scenario], subjects: Sequence[Subject], samples: Samples) -> Iterator[tuple[str, ...]]:
    """Yield the table's lines; the first subject is the one without a proxy, the second the pipe."""
    direct = subjects[0].name
    yield "scenario", "measure", *(subject.name for subject in subjects[1:])
    for scenario in scenarios:
        for measure in (*_OF_UNIT[scenario.unit], *_latencies(scenario)):
            medians = {
                subject.name: statistics.median(
                    measure.value(scenario, it) for it in samples[scenario.name, subject.name]
                )
                for subject in subjects
            }
            base = medians[direct] if measure.added else 0.0
            first, *others = (value - base for name, value in medians.items() if name != direct)
            yield scenario.name, measure.name, f"{first:.3g}", *(f"{it:.3g} ({it / first:.2f} ×)" for it in others)


def markdown(table: Sequence[Sequence[str]], legend: Sequence[str]) -> str:
    """The whole report."""
    lines = [f"| {' | '.join(row)} |" for row in table]
    lines.insert(1, "|---" * 2 + "|---:" * (len(table[0]) - 2) + "|")
    notes = [f"- {note}" for note in legend]
    return "\n".join(("# What the bridge costs", "", *lines, "", *notes, ""))


def machine() -> str:
    """The machine and the versions that a figure depends on."""
    cores, memory = psutil.cpu_count() or 0, psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return (
        f"{cores} cores, {memory:.0f} GiB, {system}; Python {platform.python_version()}, aiohttp {version('aiohttp')}"
    )
