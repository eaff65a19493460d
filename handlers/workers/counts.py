"""Sums of metrics, as workers tell them: counters and histograms of several processes together.

A worker tells a list of families, `[name, type, documentation, samples]`, each sample `[name, labels, value]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Family: TypeAlias = Sequence[Any]
#: The types of what only ever grows.
_COUNTS: Final = ("counter", "histogram")


def add(counted: Sequence[Family], more: Sequence[Family]) -> list[Family]:
    """The sums of two lists' counters and histograms, without what is no count."""
    families: dict[str, Family] = {}
    sums: dict[str, dict[tuple[object, ...], list[Any]]] = {}
    for name, kind, documentation, samples in (*counted, *more):
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
