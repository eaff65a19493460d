"""Counters and histograms since the daemon's start, for monitoring.

The values of labels are bounded: model names as in the statistics, otherwise fixed words. They contain no name of a
key, no account and no address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

from bridge.statistics.counts import ToolUse
from bridge.statistics.histogram import Histogram
from bridge.statistics.stats import Stats
from upstream.protocol.errors import Reason

#: The values of a metric, by the values of its labels.
Samples: TypeAlias = Mapping[tuple[str, ...], float]


class Counter(NamedTuple):
    """A counter: its name without prefix and `_total`, its labels, and how to read it from the statistics."""

    name: str
    documentation: str
    labels: tuple[str, ...]
    read: Callable[[Stats], Samples]


_TOOL_OUTCOMES: Final = ToolUse._fields[1:4]

_COUNTERS: Final = (
    Counter(
        "requests",
        "Requests for an answer that have ended, by HTTP status; 499 where the caller left.",
        ("status",),
        lambda stats: {(str(status),): count for status, count in stats.statuses.items()},
    ),
    Counter(
        "reasons",
        "Requests for an answer that have ended, by word of diagnosis.",
        ("reason",),
        lambda stats: {(word,): stats.reasons[word] for word in Reason},
    ),
    Counter(
        "errors",
        "Requests that ended in an error, as the status or within the stream.",
        (),
        lambda stats: {(): stats.totals.errors},
    ),
    Counter("chunks", "Deltas written to callers.", (), lambda stats: {(): stats.totals.chunks}),
    Counter(
        "tokens",
        "Tokens as usage estimates them.",
        ("kind",),
        lambda stats: {("prompt",): stats.totals.prompt_tokens, ("completion",): stats.totals.completion_tokens},
    ),
    Counter(
        "uploads",
        "Pictures and documents brought to LMArena's storage, or not.",
        ("result",),
        lambda stats: {("ok",): stats.totals.uploaded, ("failed",): stats.totals.upload_failures},
    ),
    Counter(
        "api_requests",
        "Requests by front API.",
        ("api",),
        lambda stats: {(api,): usage.requests for api, usage in stats.apis.items()},
    ),
    Counter(
        "api_errors",
        "Requests that ended in an error, by front API.",
        ("api",),
        lambda stats: {(api,): usage.errors for api, usage in stats.apis.items()},
    ),
    Counter(
        "model_requests",
        "Requests by model.",
        ("model",),
        lambda stats: {(model,): usage.requests for model, usage in stats.models.items()},
    ),
    Counter(
        "model_errors",
        "Requests that ended in an error, by model.",
        ("model",),
        lambda stats: {(model,): usage.errors for model, usage in stats.models.items()},
    ),
    Counter(
        "model_tools_offered",
        "Answers to requests that brought tools, by model.",
        ("model",),
        lambda stats: {(model,): usage.tools.offered for model, usage in stats.models.items() if usage.tools.offered},
    ),
    Counter(
        "model_tools",
        "What became of tools by model: called, repaired (called once corrected), unparsed (no call could be read).",
        ("model", "outcome"),
        lambda stats: {
            (model, outcome): count
            for model, usage in stats.models.items()
            if usage.tools.offered
            for outcome, count in zip(_TOOL_OUTCOMES, usage.tools[1:], strict=False)
        },
    ),
    Counter(
        "model_tools_dropped_chars",
        "Characters between and behind tool calls that were neither text nor call, by model.",
        ("model",),
        lambda stats: {
            (model,): usage.tools.dropped_chars for model, usage in stats.models.items() if usage.tools.offered
        },
    ),
)

_HISTOGRAMS: Final[tuple[tuple[str, str, Callable[[Stats], Histogram]], ...]] = (
    ("ttft_seconds", "Time to the first delta.", lambda stats: stats.totals.ttft),
    ("duration_seconds", "Total time that requests took.", lambda stats: stats.totals.duration),
)


class SinceStart:
    """The counts since this object was created.

    The totals of the statistics cannot be used: a crash loses their last seconds, and Prometheus would take the lower
    values for a reset and count everything again.
    """

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._counted = [counter.read(stats) for counter in _COUNTERS]
        self._observed = [(tuple(read(stats).counts), read(stats).sum) for _, _, read in _HISTOGRAMS]

    def counters(self) -> Iterator[tuple[Counter, Samples]]:
        """Every counter with its values."""
        for counter, before in zip(_COUNTERS, self._counted, strict=True):
            yield counter, {key: count - before.get(key, 0) for key, count in counter.read(self._stats).items()}

    def histograms(self) -> Iterator[tuple[str, str, Mapping[str, int], float]]:
        """Every histogram: its name, its documentation, its cumulative counts by upper bound, and its sum."""
        for (name, documentation, read), (counts, seconds) in zip(_HISTOGRAMS, self._observed, strict=True):
            histogram = read(self._stats)
            bounds = (*map(str, histogram.bounds), "+Inf")
            upto = accumulate(count - before for count, before in zip(histogram.counts, counts, strict=True))
            yield name, documentation, dict(zip(bounds, upto, strict=True)), histogram.sum - seconds
