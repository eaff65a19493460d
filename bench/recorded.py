"""Measures the cost of recording streams: one daemon alternates between recording and not recording."""

from __future__ import annotations

import asyncio
import signal
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.measure import Warm, warm
from bench.report import Section, Target
from bench.scenarios import Play, Scenario
from bench.subjects import Place, Subject, our_bridge

#: How often a round of `make bench` is repeated: many short rounds, since the difference to be measured is small.
_TIMES: Final = 5
#: A delta takes 27 bytes of the site's stream, framing included: all rounds of a scenario amount to 10 MB or more.
_SCENARIOS: Final = (
    Scenario("one by one", "20 streams of 500 deltas, 10 ms apart", "delta", Play(500, 0.01), 20, 20, spread=0.5),
    Scenario("at once", "2 streams of 50,000 deltas, one after another", "delta", Play(50_000, 0), 2, 1),
)
_TARGET: Final = Target(at_most=2, unit="%")
#: The value of `keep_mb` while recording: more than the calls of a round take up.
_KEEP_MB: Final = 2000
_RELOADED: Final = "was reloaded"
_RELOAD_SECONDS: Final = 20.0


async def recorded(rounds: int, upstream_port: int, say: Callable[[str], None]) -> Section:
    """Measure each scenario with recording and without; which of the two is first alternates between rounds."""
    costs: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for scenario in _SCENARIOS:
        daemon = _Daemon()
        async with warm(daemon.subject(), upstream_port) as bridge:
            for at in range(rounds * _TIMES + 1):
                say(f"recorded, {scenario.name}, round {at}: {scenario.about}")
                for records in (True, False) if at % 2 else (False, True):
                    await daemon.record(bridge, _KEEP_MB if records else 0)
                    run = replace(scenario, name=f"{scenario.name} {at} {records}")  # prompts that were not sent before
                    cost = (await bridge.measure(run)).cpu
                    if at:  # the first round is a warm-up
                        costs[scenario.name, records].append(cost)
    notes = [
        f"CPU time of the daemon in {rounds * _TIMES} rounds, in which one daemon records all calls and none in turn",
        "the lower quartile of the rounds: what else runs on the machine only adds",
        *[f"{scenario.name}: {scenario.about}" for scenario in _SCENARIOS],
    ]
    return Section("Streams that are recorded", list(_rows(costs)), notes)


class _Daemon:
    """The bridge, whose recording can be switched on and off while it runs."""

    def __init__(self) -> None:
        self._config = Path()
        self._text = ""

    def subject(self) -> Subject:
        """The subject: `our_bridge`, whose configuration file is remembered so that `record` can change it."""
        ours = our_bridge()

        async def command(place: Place) -> Sequence[str]:
            made = await ours.command(place) if ours.command is not None else ()
            self._config = place.folder / "bridge.toml"
            self._text = self._config.read_text()
            return made

        return replace(ours, command=command)

    async def record(self, bridge: Warm, keep_mb: int) -> None:
        """Set `keep_mb` in the configuration, and wait until the daemon logs that it was reloaded."""
        log = self._config.with_name("log")
        before = log.read_text().count(_RELOADED)
        self._config.write_text(f"{self._text}[recording]\nkeep_mb = {keep_mb}\n")
        bridge.running.processes[0].send_signal(signal.SIGHUP)
        async with asyncio.timeout(_RELOAD_SECONDS):
            while log.read_text().count(_RELOADED) == before:  # noqa: ASYNC110 — another process sets no event
                await asyncio.sleep(0.05)


def _rows(costs: Mapping[tuple[str, bool], Sequence[float]]) -> Iterator[Sequence[str]]:
    yield "scenario", "CPU per delta, µs", "recorded", "more"
    for scenario in _SCENARIOS:
        deltas = scenario.streams * scenario.play.deltas
        without, recorded = (
            statistics.quantiles(costs[scenario.name, records], n=4)[0] / deltas * 1e6 for records in (False, True)
        )
        more = 100 * (recorded / without - 1)
        yield scenario.name, f"{without:.3g}", f"{recorded:.3g}", f"{more:.1f} % ({_TARGET.judged(more)})"
