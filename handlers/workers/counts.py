"""Sums of the counters and histograms that workers report.

A worker reports a list of families, `[name, type, documentation, samples]`; a sample is `[name, labels, value]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Family: TypeAlias = Sequence[Any]
#: The types whose values only ever grow.
_COUNTS: Final = ("counter", "histogram")


def add_counts(some: Sequence[Family], more: Sequence[Family]) -> list[Family]:
    """The sums of two lists' counters and histograms; families of other types are left out."""
    families: dict[str, Family] = {}
    sums: dict[str, dict[tuple[object, ...], list[Any]]] = {}
    for name, kind, documentation, samples in (*some, *more):
        if kind not in _COUNTS:
            continue
        families.setdefault(name, (name, kind, documentation))
        into = sums.setdefault(name, {})
        for sample, labels, value in samples:
            key = (sample, *sorted(labels.items()))
            if key in into:
                into[key][2] += value
            else:
                into[key] = [sample, labels, value]
    return [[*family, list(sums[name].values())] for name, family in families.items()]
