"""Evaluates the measurements of a soak test: a fitted line, a CSV file and a chart."""

from __future__ import annotations

import csv
import math
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

#: Memory must rise by less than this after the warm-up, in MiB per hour.
MAX_RISE: Final = 1.0
#: If the fitted time is shorter than this, in hours, MAX_RISE applies to the whole of it instead of an hour.
LEAST_HOURS: Final = 0.9
#: If the fitted time is shorter than this, in hours, memory is not judged: the daemon's tables fill for half an hour.
WARM_HOURS: Final = 0.5
#: How many more descriptors, tasks and threads there may be at the end, since they are counted during requests.
SPARE: Final = 6


class Sample(NamedTuple):
    """One measurement: seconds since the start, the daemon's number, and what it held and its callers counted."""

    seconds: float
    daemon: int
    rss_mib: float
    fds: int
    tasks: int
    threads: int
    answered: int
    failed: int
    left: int


class Line(NamedTuple):
    """A least-squares line: its rise per hour, and the standard error of the rise."""

    rise: float
    error: float


def fitted(samples: Sequence[Sample], value: Callable[[Sample], float]) -> Line:
    """Fit a line to at least three samples."""
    hours = [sample.seconds / 3600 for sample in samples]
    values = [value(sample) for sample in samples]
    rise, start = statistics.linear_regression(hours, values)
    left = sum((each - start - rise * at) ** 2 for at, each in zip(hours, values, strict=True))
    spread = sum((at - statistics.fmean(hours)) ** 2 for at in hours)
    return Line(rise, math.sqrt(left / (len(samples) - 2) / spread))


def looked_at(pid: int) -> tuple[float, int, int]:
    """The resident memory of a process in MiB, and its numbers of descriptors and threads."""
    proc = Path(f"/proc/{pid}")
    pages = int((proc / "statm").read_text().split()[1])
    descriptors = len(list((proc / "fd").iterdir()))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, descriptors, len(list((proc / "task").iterdir()))


def judged(samples: Sequence[Sample]) -> tuple[list[str], bool]:
    """Report on the samples of the time in which nothing may grow; return the lines, and whether nothing has grown."""
    hours = (samples[-1].seconds - samples[0].seconds) / 3600
    memory = fitted(samples, lambda sample: sample.rss_mib)
    rise = memory.rise if hours >= LEAST_HOURS else memory.rise * hours
    unit = "MiB an hour" if hours >= LEAST_HOURS else "MiB in this time"
    least, most = min(each.rss_mib for each in samples), max(each.rss_mib for each in samples)
    line = f"line: {memory.rise:+.2f} ± {memory.error:.2f} MiB an hour"
    lines = [
        f"fitted: {len(samples)} samples of {hours * 60:.0f} minutes, from minute {samples[0].seconds / 60:.0f} on",
        f"memory: {rise:+.2f} {unit} ({line}), {least:.1f} to {most:.1f} MiB",
    ]
    good = rise < MAX_RISE or hours < WARM_HOURS
    quarter = max(1, len(samples) // 4)
    for name in ("fds", "tasks", "threads"):
        values = [getattr(sample, name) for sample in samples]
        first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
        lines.append(f"{name}: {first:g} at first, {last:g} at last (medians), {max(values)} at most")
        good = good and last <= first + SPARE
    return lines, good


def write(samples: Sequence[Sample], path: Path, title: str, begins: float) -> None:
    """Write PATH.csv and PATH.svg; `begins` is the start of the fitted time, in seconds."""
    import pygal
    from pygal.style import CleanStyle

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Sample._fields)
        table.writerows([f"{each:.1f}" if isinstance(each, float) else each for each in sample] for sample in samples)
    chart = pygal.XY(
        title=title,
        x_title=f"minutes (measured from minute {begins / 60:.0f} on)",
        y_title="resident memory, MiB",
        style=CleanStyle,
        js=(),
        height=420,
        show_dots=False,
        show_x_guides=True,
        legend_at_bottom=True,
        include_x_axis=False,
        range=(0, max(sample.rss_mib for sample in samples) * 1.1),
        secondary_range=(0, max(max(sample.fds, sample.tasks) for sample in samples) * 2),
        disable_xml_declaration=True,
    )
    for daemon in sorted({sample.daemon for sample in samples}):
        points = [(sample.seconds / 60, sample.rss_mib) for sample in samples if sample.daemon == daemon]
        chart.add(f"memory, daemon {daemon + 1}", points)
    chart.add("descriptors", [(sample.seconds / 60, sample.fds) for sample in samples], secondary=True)
    chart.add("tasks", [(sample.seconds / 60, sample.tasks) for sample in samples], secondary=True)
    path.with_suffix(".svg").write_text(chart.render(is_unicode=True) + "\n")
