"""The metrics of several workers as those of one daemon: counts are added up, and each gauge by its own rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from handlers.workers.counts import Family, add
from handlers.workers.link import Gathered

#: Gauges that add up; of those that describe what all share, this worker's own value stands; of any other the highest.
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


def summed(gathered: Gathered) -> list[Family]:
    """All families, with the values of all workers together. Counts include those of workers that have ended."""
    families = list(gathered.ended)
    for each in (gathered.own, *gathered.others):
        families = add(families, each)
    return [*families, *_gauges((gathered.own, *gathered.others))]


def _gauges(of_workers: Sequence[Sequence[Family]]) -> Iterator[Family]:
    gauges: dict[str, list[Any]] = {}
    for families in of_workers:
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
        return lambda one, other: one + other
    return min if name in _LOWEST else max
