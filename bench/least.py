"""Measures the least CPU time that a request takes, so that two source trees can be compared on a busy machine.

    python -m bench.least [--beside TREE]… [--slices N] [SCENARIO]…

Each tree's daemon answers many short slices of a scenario, in turn with the others. Other programs can only add to a
slice's CPU time (caches, switches), so the minimum of many slices is stable to within a few percent, unlike
their mean.

Counting instructions with valgrind is less useful: it makes the daemon thirty times slower, so that periodic work, such
as saving statistics, is done thirty times as often per request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import click

from bench import load
from bench.measure import Warm, upstream, warm
from bench.report import Section
from bench.scenarios import SCENARIOS, Play, Scenario
from bench.subjects import our_bridge

#: How many streams a slice has; they take about 20 ms of CPU time.
_STREAMS: Final = {"short": 64, "alone": 30, "history": 10, "history-whole": 10, "natural": 10}
_SCENARIOS: Final = {
    name: replace(SCENARIOS[name], streams=streams, at_once=min(SCENARIOS[name].at_once, streams))
    for name, streams in _STREAMS.items()
} | {"natural": replace(SCENARIOS["natural"], streams=10, at_once=10, spread=0, play=Play(100, 0.01))}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(_SCENARIOS)))
@click.option("--slices", default=60, show_default=True, type=click.IntRange(1))
@click.option(
    "--beside",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another source tree.",
)
def main(names: Sequence[str], slices: int, beside: Sequence[Path]) -> None:
    """Measure the least CPU time of a request, in this source tree and beside it in others."""
    trees = {"bridge": Path(__file__).parent.parent, **{tree.name: tree.resolve() for tree in beside}}
    click.echo(asyncio.run(_measured([_SCENARIOS[name] for name in names or _SCENARIOS], trees, slices)).markdown())


async def _measured(scenarios: Sequence[Scenario], trees: Mapping[str, Path], slices: int) -> Section:
    table = [["scenario", *trees]]
    async with upstream() as port:
        for scenario in scenarios:
            async with AsyncExitStack() as running:
                daemons = [await running.enter_async_context(warm(our_bridge(*tree), port)) for tree in trees.items()]
                table.append([scenario.name, *await _row(scenario, daemons, slices)])
    notes = [f"{scenario.name}: {scenario.about}" for scenario in scenarios]
    return Section(f"CPU time of a request, in µs: the least of {slices} slices", table, notes)


async def _row(scenario: Scenario, daemons: Sequence[Warm], slices: int) -> list[str]:
    costs: list[list[float]] = [[] for _ in daemons]
    for at in range(slices):
        for daemon, its in zip(daemons, costs, strict=True):
            requests = partial(_later, daemon.subject.requests(scenario), (at + 1) * 10_000)
            before = daemon.running.cpu_seconds()
            await load.run(daemon.running.port, requests, scenario)
            its.append((daemon.running.cpu_seconds() - before) / scenario.streams * 1e6)
    ours = min(costs[0])
    return [f"{ours:.0f}", *[f"{min(its):.0f} (ours: {ours / min(its):.2f} × of it)" for its in costs[1:]]]


def _later(requests: Callable[[int], bytes], first: int, number: int) -> bytes:
    """A request with a unique number, so that no slice repeats a chat of an earlier one, which would be continued."""
    return requests(first + number)


if __name__ == "__main__":
    main()
