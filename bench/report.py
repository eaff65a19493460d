"""Reports measurements as tables with notes, in Markdown."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import psutil

from bench.subjects import Subject


@dataclass(frozen=True, slots=True)
class Target:
    """The upper or lower bound of a figure."""

    at_most: float | None = None
    at_least: float | None = None
    unit: str = "×"

    def judged(self, value: float) -> str:
        """The target, and whether the figure meets it."""
        if self.at_most is not None:
            bound, met = f"≤ {self.at_most:g} {self.unit}", value <= self.at_most
        else:
            bound, met = f"≥ {self.at_least:g} {self.unit}", value >= (self.at_least or 0.0)
        return f"{bound}: {'met' if met else 'missed'}"


@dataclass(frozen=True, slots=True)
class Section:
    """A table, whose first row is the header, and notes on it."""

    title: str
    table: Sequence[Sequence[str]]
    notes: Sequence[str]

    def markdown(self) -> str:
        """The section, with aligned columns."""
        widths = [max(map(len, column)) for column in zip(*self.table, strict=True)]
        head, *rows = self.table
        lines = [
            f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
            for row in (head, ["-" * width for width in widths], *rows)
        ]
        return "\n".join((f"## {self.title}", "", *lines, "", *(f"- {note}" for note in self.notes), ""))


def markdown(sections: Sequence[Section], subjects: Sequence[Subject]) -> str:
    """The whole report."""
    return "\n".join(("# What the bridge costs", "", machine(subjects), "", *(it.markdown() for it in sections)))


def machine(subjects: Sequence[Subject]) -> str:
    """Describe the machine and versions."""
    cores, memory = psutil.cpu_count() or 0, psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    versions = ", ".join(f"{it.name} {it.version}" for it in subjects if it.version)
    libraries = f"Python {platform.python_version()}, aiohttp {version('aiohttp')}"
    return f"Measured by `make bench` on {cores} cores, {memory:.0f} GiB, {system}; {libraries}; {versions}."
