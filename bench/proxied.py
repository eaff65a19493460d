"""Measures what a SOCKS proxy between the bridge and the site costs the bridge."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.measure import Sample, warm
from bench.processes import free_port, listening
from bench.report import Section
from bench.scenarios import Play, Scenario
from bench.subjects import Skipped, our_bridge

_SCENARIOS: Final = (
    Scenario("short", "1,000 requests of 20 deltas, 8 at once", "request", Play(20, 0), 1000, 8),
    Scenario("alone", "500 requests of 20 deltas, one at a time", "request", Play(20, 0), 500, 1),
)
_WAYS: Final = ("direct", "through SOCKS")


async def proxied(rounds: int, upstream_port: int, say: Callable[[str], None]) -> Section:
    """Measure the direct way and the way through the proxy in turn. Raises Skipped without microsocks."""
    program = shutil.which("microsocks")
    if program is None:
        raise Skipped("microsocks is not installed")
    samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-socks-") as folder:
        command = (program, "-i", "127.0.0.1", "-p", str(port))
        async with listening(command, port, Path(folder), Path(folder) / "log"):
            for scenario in _SCENARIOS:
                for at in range(rounds):
                    say(f"proxy, {scenario.name}, round {at + 1}: {scenario.about}")
                    for way, proxy in zip(_WAYS, ("", f"socks5://127.0.0.1:{port}"), strict=True):
                        async with warm(our_bridge(proxy=proxy), upstream_port) as bridge:
                            samples[scenario.name, way].append(await bridge.measure(scenario))
    notes = [
        f"medians of {rounds} rounds, in which the ways take turns; (×): ratio to the direct way",
        *[f"{scenario.name}: {scenario.about}" for scenario in _SCENARIOS],
        "the bridge keeps its connections, so that most requests find one through the proxy",
    ]
    return Section("To the site through a SOCKS proxy", list(_rows(samples)), notes)


def _rows(samples: Mapping[tuple[str, str], Sequence[Sample]]) -> Iterator[Sequence[str]]:
    yield "scenario", "measure", *_WAYS
    measures: dict[str, Callable[[Sample], float]] = {
        "CPU per request, ms": lambda it: it.cpu * 1e3 / it.scenario.streams,
        "first delta, p50, ms": lambda it: statistics.median(it.ttfts) * 1e3,
    }
    for scenario in _SCENARIOS:
        for measure, value in measures.items():
            direct, socks = (statistics.median(map(value, samples[scenario.name, way])) for way in _WAYS)
            yield scenario.name, measure, f"{direct:.3g}", f"{socks:.3g} ({socks / direct:.2f} ×)"
