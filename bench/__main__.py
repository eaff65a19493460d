"""`python -m bench`: the load, upstream and every subject as processes on this machine, in interleaved rounds."""

from __future__ import annotations

import asyncio
import gc
import pstats
import resource
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from bench import load, report, subjects
from bench.report import Sample
from bench.scenarios import QUICK, SCENARIOS, WARM_UP, Scenario
from bench.subjects import Skipped, Subject

_RESULTS: Final = Path(__file__).parent / "RESULTS.md"

_console: Final = Console(stderr=True)


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Default: the quick ones.")
@click.option("--all", "everything", is_flag=True, help="Every scenario.")
@click.option("--beside", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another source tree.")
@click.option("--markdown", is_flag=True, help=f"Write {_RESULTS.name} too.")
@click.option("--profile", type=click.Choice(list(SCENARIOS)), help="Say where the bridge spends its time instead.")
def main(
    rounds: int, names: Sequence[str], everything: bool, beside: Path | None, markdown: bool, profile: str | None
) -> None:
    """Measure what the bridge costs, beside a bare aiohttp pipe in the same run."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # a pause of the load generator's would count as the subject's
    if profile is not None:
        asyncio.run(_profile(SCENARIOS[profile]))
        return
    scenarios = [SCENARIOS[name] for name in (SCENARIOS if everything else names or QUICK)]
    chosen = _subjects(beside)
    samples = asyncio.run(_measure_all(scenarios, chosen, rounds))
    table = list(report.rows(scenarios, chosen, samples))
    shown = Table(*table[0], title=f"medians of {rounds} rounds; (×) of the pipe")
    for row in table[1:]:
        shown.add_row(*row)
    Console().print(shown)
    if markdown:
        legend = [f"medians of {rounds} rounds; (×): of the pipe's", report.machine()]
        legend += [f"{scenario.name}: {scenario.about}" for scenario in scenarios]
        _RESULTS.write_text(report.markdown(table, legend))


def _subjects(beside: Path | None) -> list[Subject]:
    """All that are installed here."""
    found = [subjects.DIRECT, subjects.pipe(), subjects.our_bridge()]
    if beside is not None:
        found.append(subjects.our_bridge("beside", beside.resolve()))
    for subject in (subjects.nginx, subjects.litellm):
        try:
            found.append(subject())
        except Skipped as why:
            _console.print(f"skipped: {why}")
    return found


async def _measure_all(
    scenarios: Sequence[Scenario], chosen: Sequence[Subject], rounds: int
) -> dict[tuple[str, str], list[Sample]]:
    samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    async with _upstream() as port:
        for scenario in scenarios:
            for at in range(rounds):
                _console.print(f"{scenario.name}, round {at + 1}: {scenario.about}")
                for subject in chosen:
                    samples[scenario.name, subject.name].append(await _measure(subject, scenario, port))
    return samples


@asynccontextmanager
async def _upstream() -> AsyncIterator[int]:
    port = subjects.free_port()
    with tempfile.NamedTemporaryFile(prefix="bench-upstream-") as log:
        command = (sys.executable, "-m", "bench.upstream", str(port))
        async with subjects.process(command, port, Path(__file__).parent.parent, Path(log.name)):
            yield port


async def _measure(subject: Subject, scenario: Scenario, upstream_port: int) -> Sample:
    """Measure one subject once, warmed up."""
    async with subjects.running(subject, upstream_port) as running:
        await load.run(running.port, subject.requests(WARM_UP), WARM_UP)
        memory, cpu = running.peak_bytes(), running.cpu_seconds()
        tally = await load.run(running.port, subject.requests(scenario), scenario)
        return Sample(
            running.cpu_seconds() - cpu, running.peak_bytes() - memory, sorted(tally.ttfts), sorted(tally.lateness)
        )


async def _profile(scenario: Scenario) -> None:
    """Run one scenario under cProfile and print where the time went."""
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as folder:
        result = Path(folder) / "profile"
        runner = (sys.executable, "-m", "cProfile", "-o", str(result))
        async with _upstream() as port:
            await _measure(subjects.our_bridge(runner=runner), scenario, port)
        pstats.Stats(str(result)).strip_dirs().sort_stats("tottime").print_stats(50)


if __name__ == "__main__":
    main()
