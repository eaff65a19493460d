"""Measures subjects under load, in rounds that alternate between the subjects."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bench import load
from bench.load import Lost
from bench.processes import Running, free_port, listening
from bench.scenarios import WARM_UP, Scenario
from bench.subjects import Subject, running


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of `scenario`.

    `cpu` is the subject's CPU time; `memory` and `peak` are the growth and the peak of its memory, in bytes. Times are
    in seconds; `ttfts` and `lateness` are sorted.
    """

    scenario: Scenario
    cpu: float
    memory: int
    peak: int
    ttfts: Sequence[float]
    lateness: Sequence[float]


#: By scenario and subject; Lost for a round without a valid measurement.
Samples: TypeAlias = Mapping[tuple[str, str], Sequence[Sample | Lost]]


@dataclass(frozen=True, slots=True)
class Warm:
    """A running subject after its warm-up; `memory` is its peak at that time, in bytes."""

    subject: Subject
    running: Running
    memory: int

    async def measure(self, scenario: Scenario) -> Sample:
        """Measure one run. Raises Lost."""
        cpu = self.running.cpu_seconds()
        tally = await load.run(self.running.port, self.subject.requests(scenario), scenario, self.subject.mark)
        cpu = self.running.cpu_seconds() - cpu
        peak = self.running.peak_bytes()
        return Sample(scenario, cpu, peak - self.memory, peak, sorted(tally.ttfts), sorted(tally.lateness))


@asynccontextmanager
async def warm(subject: Subject, upstream_port: int) -> AsyncIterator[Warm]:
    """Run a subject, warmed up. Raises NotStarted or Lost."""
    warm_up = _fitting(WARM_UP, subject)
    async with running(subject, upstream_port) as process:
        await load.run(process.port, subject.requests(warm_up), warm_up, subject.mark)
        yield Warm(subject, process, process.peak_bytes())


@asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    """Run upstream; yield its port."""
    port = free_port()
    with tempfile.NamedTemporaryFile(prefix="bench-upstream-") as log:
        command = (sys.executable, "-m", "bench.upstream", str(port))
        async with listening(command, port, Path(__file__).parent.parent, Path(log.name)):
            yield port


async def in_rounds(
    scenario: Scenario, subjects: Sequence[Subject], rounds: int, upstream_port: int, say: Callable[[str], None]
) -> Samples:
    """Measure each subject once in every round. Slow subjects keep running, but are paused between measurements."""
    samples: dict[tuple[str, str], list[Sample | Lost]] = defaultdict(list)
    chosen = [subject for subject in subjects if scenario.few or not subject.slow]
    async with AsyncExitStack() as lasting:
        slow: dict[str, Warm] = {}
        for subject in chosen:
            if subject.slow:
                lasts = slow[subject.name] = await lasting.enter_async_context(warm(subject, upstream_port))
                lasting.callback(lasts.running.resume)
                lasts.running.pause()
        for at in range(rounds * scenario.times):
            say(f"{scenario.name}, round {at + 1}: {scenario.about}")
            for subject in chosen:
                try:
                    if subject.slow:
                        sample: Sample | Lost = await _resumed(slow[subject.name], _fitting(scenario, subject))
                    else:
                        async with warm(subject, upstream_port) as started:
                            sample = await started.measure(scenario)
                except Lost as lost:
                    sample = lost
                    say(f"{scenario.name}, {subject.name}: {sample}")
                samples[scenario.name, subject.name].append(sample)
    return samples


async def _resumed(lasting: Warm, scenario: Scenario) -> Sample:
    lasting.running.resume()
    try:
        return await lasting.measure(scenario)
    finally:
        lasting.running.pause()


def _fitting(scenario: Scenario, subject: Subject) -> Scenario:
    return scenario.with_few() if subject.slow else scenario
