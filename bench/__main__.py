"""`python -m bench`: runs the load, upstream and all subjects as processes on this machine, in interleaved rounds."""

from __future__ import annotations

import asyncio
import gc
import pstats
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click

from bench import report, subjects
from bench.compare import compared, needs_direct
from bench.dialects import spoken
from bench.growth import grown
from bench.load import Lost
from bench.longest import longest
from bench.measure import Sample, in_rounds, upstream, warm
from bench.proxied import proxied
from bench.recorded import recorded
from bench.report import Section
from bench.scenarios import SCENARIOS, Scenario
from bench.start import started
from bench.subjects import Skipped, Subject
from bench.throughput import throughput
from bench.workers import shared

_RESULTS: Final = Path(__file__).parent / "RESULTS.md"
_PARTS: Final = ("compare", "dialects", "proxy", "callbacks", "start", "growth", "workers", "recorded")

_say: Final = partial(click.echo, err=True)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(_PARTS))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Default: all of them.")
@click.option("--beside", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another source tree.")
@click.option("--markdown", is_flag=True, help=f"Write {_RESULTS.name} too.")
@click.option("--profile", type=click.Choice(list(SCENARIOS)), help="Profile the bridge in one scenario instead.")
def main(
    parts: Sequence[str], rounds: int, names: Sequence[str], beside: Path | None, markdown: bool, profile: str | None
) -> None:
    """Measure the bridge's overhead against a bare aiohttp pipe in the same run.

    PARTS are `compare`, with the pipes and the other proxies; `dialects`, each API beside chat completions; `proxy`, to
    the site through SOCKS; `callbacks`, the longest in the loop; `start`; `growth`; `workers`, with Redis, and how many
    more requests two answer than one; `recorded`, streams with a recording and without. The default is all, which takes
    more than half an hour.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # a pause for garbage collection here would be counted as the subject's latency
    if profile is not None:
        asyncio.run(_profile(SCENARIOS[profile]))
        return
    scenarios = [SCENARIOS[name] for name in (names or SCENARIOS)]
    chosen = _subjects(beside)
    sections = asyncio.run(_measure(parts or _PARTS, scenarios, chosen, rounds))
    results = report.markdown(sections, chosen)
    click.echo(results)
    if markdown:
        _RESULTS.write_text(results)


def _subjects(beside: Path | None) -> list[Subject]:
    """All subjects that are installed here."""
    ours = [subjects.our_bridge()]
    if beside is not None:
        ours.append(subjects.our_bridge("beside", beside.resolve()))
    others = (subjects.pipe, subjects.nginx, subjects.litellm)
    strictest, pipe, *proxies = map(_installed, (subjects.pipe_on_uvloop, *others))
    return [it for it in (subjects.DIRECT, strictest, pipe, *ours, *proxies) if it is not None]


def _installed(subject: Callable[[], Subject]) -> Subject | None:
    try:
        return subject()
    except Skipped as why:
        _say(f"skipped: {why}")
        return None


async def _measure(
    parts: Sequence[str], scenarios: Sequence[Scenario], chosen: Sequence[Subject], rounds: int
) -> list[Section]:
    """Measure the parts in order."""
    sections = []
    async with upstream() as port:
        if "compare" in parts:
            samples: dict[tuple[str, str], Sequence[Sample | Lost]] = {}
            for scenario in scenarios:
                asked = [it for it in chosen if it is not subjects.DIRECT or needs_direct(scenario)]
                samples |= await in_rounds(scenario, asked, rounds, port, _say)
            sections.append(compared(scenarios, chosen, samples, rounds))
        if "dialects" in parts:
            sections.append(await spoken(rounds, port, _say))
        if "proxy" in parts:
            try:
                sections.append(await proxied(rounds, port, _say))
            except Skipped as why:
                _say(f"skipped: {why}")
        if "callbacks" in parts:
            sections.append(await longest(scenarios, port, _say))
        if "start" in parts:
            sections.append(await started(rounds, port, _say))
        if "growth" in parts:
            sections.append(await grown(rounds, port, _say))
        if "workers" in parts:
            for measure in (partial(shared, rounds, port, _say), partial(throughput, rounds, _say)):
                try:
                    sections.append(await measure())
                except Skipped as why:
                    _say(f"skipped: {why}")
        if "recorded" in parts:
            sections.append(await recorded(rounds, port, _say))
    return sections


async def _profile(scenario: Scenario) -> None:
    """Run one scenario under cProfile and print the profile."""
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as folder:
        result = Path(folder) / "profile"
        runner = (sys.executable, "-m", "cProfile", "-o", str(result))
        async with upstream() as port, warm(subjects.our_bridge(runner=runner), port) as bridge:
            await bridge.measure(scenario)
        pstats.Stats(str(result)).strip_dirs().sort_stats("tottime").print_stats(50)


if __name__ == "__main__":
    main()
