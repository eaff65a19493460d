"""The metrics of several workers as those of one daemon: counts are added up, gauges merged by a rule for each."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, Final

from handlers.workers.counts import Family, add_counts
from handlers.workers.link import GatheredMetrics

#: The gauges that are added up, those that are the same in all workers, and those of which the lowest value counts; of
#: any other, the highest does.
_ADDED: Final = frozenset(
    (
        "lmarena_bridge_answers_running",
        "lmarena_bridge_requests_waiting",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    )
)
_SHARED: Final = frozenset(
    ("lmarena_bridge_build_info", "lmarena_bridge_accounts", "lmarena_bridge_models", "lmarena_bridge_keys")
)
_LOWEST: Final = frozenset(
    (
        "lmarena_bridge_serving",
        "lmarena_bridge_requests_left",
        "lmarena_bridge_session_expiry_timestamp_seconds",
        "process_start_time_seconds",
    )
)


def summed(gathered: GatheredMetrics) -> list[Family]:
    """The families of all workers together. Counts include those of workers that have ended."""
    workers = (gathered.own, *gathered.others)
    return [*reduce(add_counts, workers, gathered.ended), *_gauges(workers)]


def _gauges(by_worker: Sequence[Sequence[Family]]) -> Iterator[Family]:
    gauges: dict[str, list[Any]] = {}
    for families in by_worker:
        for name, kind, documentation, samples in families:
            if kind != "gauge":
                continue
            if name not in gauges:
                gauges[name] = [name, kind, documentation, [list(sample) for sample in samples]]
            elif name not in _SHARED:
                _merge(gauges[name][3], samples, _rule(name))
    yield from gauges.values()


def _merge(into: list[list[Any]], samples: Sequence[Any], rule: Callable[[float, float], float]) -> None:
    for sample, labels, value in samples:
        for known in into:
            if known[:2] == [sample, labels]:
                known[2] = rule(known[2], value)
                break
        else:
            into.append([sample, labels, value])


def _rule(name: str) -> Callable[[float, float], float]:
    if name in _ADDED:
        return operator.add
    return min if name in _LOWEST else max
