"""GET /metrics: what Prometheus reads. Counters begin at zero with the process, gauges are read at the scrape.

What a label holds is bounded: models as the statistics bound them, else words of our own. No key's name is among
them, no account and no address.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from platform import python_version
from typing import Final, TypeAlias

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import bridge
from bridge.histogram import Histogram
from bridge.stats import Stats
from handlers.appkeys import DRAIN, GATE, MODELS, STATE
from handlers.health import health_of
from upstream.errors import Reason

#: Values by the labels that they belong to.
Samples: TypeAlias = Mapping[tuple[str, ...], float]

_PREFIX: Final = "lmarena_bridge_"
_WALLS: Final = (Reason.CHALLENGE, Reason.BLOCKED, Reason.RECAPTCHA)


async def metrics(request: web.Request) -> web.Response:
    """All metrics, in the text format that every Prometheus reads."""
    text = await request.app[METRICS].scrape()
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


class Metrics:
    """The metrics of one daemon, in a registry of its own; made once its statistics are loaded."""

    def __init__(self, app: web.Application, stats: Stats) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(StatsCollector(stats))
        self._registry.register(DaemonCollector(app))
        self._registry.register(OwnProcessCollector(registry=None))
        name, documentation = f"{_PREFIX}event_loop_lag_seconds", "How long the event loop let this scrape wait."
        self._lag = Gauge(name, documentation, registry=self._registry)

    async def scrape(self) -> bytes:
        """Everything as it is now, as text; takes some milliseconds with as many models as there can be."""
        began = time.perf_counter()
        await asyncio.sleep(0)
        self._lag.set(time.perf_counter() - began)
        return generate_latest(self._registry)


METRICS: Final = web.AppKey("metrics", Metrics)


@dataclass(frozen=True, slots=True)
class _Counter:
    """Something counted: its name between prefix and `_total`, its labels, and where the statistics have it."""

    name: str
    documentation: str
    labels: tuple[str, ...]
    read: Callable[[Stats], Samples]


_COUNTERS: Final = (
    _Counter(
        "requests",
        "Requests for an answer that have ended, by HTTP status; 499 where the caller left.",
        ("status",),
        lambda stats: {(str(status),): count for status, count in stats.statuses.items()},
    ),
    _Counter(
        "reasons",
        "Requests for an answer that have ended, by word of diagnosis.",
        ("reason",),
        lambda stats: {(word,): stats.reasons[word] for word in Reason},
    ),
    _Counter(
        "errors",
        "Requests that ended in an error, as the status or within the stream.",
        (),
        lambda stats: {(): stats.totals.errors},
    ),
    _Counter("chunks", "Deltas written to callers.", (), lambda stats: {(): stats.totals.chunks}),
    _Counter(
        "tokens",
        "Tokens as usage estimates them.",
        ("kind",),
        lambda stats: {("prompt",): stats.totals.prompt_tokens, ("completion",): stats.totals.completion_tokens},
    ),
    _Counter(
        "uploads",
        "Pictures brought to LMArena's storage, or not.",
        ("result",),
        lambda stats: {("ok",): stats.totals.uploaded, ("failed",): stats.totals.upload_failures},
    ),
    _Counter(
        "model_requests",
        "Requests by model.",
        ("model",),
        lambda stats: {(model,): usage.requests for model, usage in stats.models.items()},
    ),
    _Counter(
        "model_errors",
        "Requests that ended in an error, by model.",
        ("model",),
        lambda stats: {(model,): usage.errors for model, usage in stats.models.items()},
    ),
)

_HISTOGRAMS: Final[tuple[tuple[str, str, Callable[[Stats], Histogram]], ...]] = (
    ("ttft_seconds", "Time to the first delta.", lambda stats: stats.totals.ttft),
    ("duration_seconds", "Time that requests took in all.", lambda stats: stats.totals.duration),
)


class StatsCollector(Collector):
    """What was counted since this was made.

    Not since the statistics began: a crash takes their last seconds, and Prometheus, finding counters lower than they
    were, would take all that they hold for new.
    """

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._counted = [counter.read(stats) for counter in _COUNTERS]
        self._observed = [(tuple(read(stats).counts), read(stats).sum) for _, _, read in _HISTOGRAMS]

    def collect(self) -> Iterator[Metric]:
        """Every counter and histogram."""
        for counter, before in zip(_COUNTERS, self._counted, strict=True):
            family = CounterMetricFamily(_PREFIX + counter.name, counter.documentation, labels=counter.labels)
            for labels, count in counter.read(self._stats).items():
                family.add_metric(labels, count - before.get(labels, 0))
            yield family
        for (name, documentation, read), (counts, seconds) in zip(_HISTOGRAMS, self._observed, strict=True):
            histogram = read(self._stats)
            bounds = (*map(str, histogram.bounds), "+Inf")
            upto = accumulate(count - before for count, before in zip(histogram.counts, counts, strict=True))
            buckets = list(zip(bounds, upto, strict=True))
            yield HistogramMetricFamily(_PREFIX + name, documentation, buckets, histogram.sum - seconds)


class DaemonCollector(Collector):
    """How the daemon is at the moment."""

    def __init__(self, app: web.Application) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        """Every gauge."""
        app, health = self._app, health_of(self._app)
        pool, gate, catalog = app[STATE].pool, app[GATE], app[MODELS].catalog
        alive = [account for account in pool if not account.expired]
        usable = len(pool.usable("chat"))
        troubles = Counter(trouble.reason for trouble in health.troubles)

        yield _gauge("build_info", "What runs.", {(bridge.__version__, python_version()): 1}, "version", "python")
        yield _gauge("serving", "Whether a chat could be answered, as /readyz says.", {(): health.serving})
        yield _gauge(
            "troubles", "What is degraded, as /health lists it.", {(word,): troubles[word] for word in Reason}, "reason"
        )
        yield _gauge("circuit_open", "Whether the site failed again and again.", {(): gate.outage is not None})
        yield _gauge(
            "wall",
            "Whether the site wants a human first.",
            {(word,): gate.wall is not None and gate.wall.reason is word for word in _WALLS},
            "reason",
        )
        yield _gauge(
            "accounts",
            "LMArena accounts: usable for a chat, resting after a 429, or expired.",
            {("usable",): usable, ("resting",): len(alive) - usable, ("expired",): len(pool) - len(alive)},
            "state",
        )
        yield _gauge(
            "session_expiry_timestamp_seconds",
            "Unix time at which the next session cookie expires, of those that have not.",
            {(): min(account.session.expires_at for account in alive)} if alive else {},
        )
        yield _gauge("models", "Models in the list.", {(): len(catalog) if catalog is not None else 0})
        yield _gauge("keys", "API keys.", {(): len(app[STATE].keys)})
        yield _gauge("answers_running", "Answers under way.", {(): app[DRAIN].running})


def _gauge(name: str, documentation: str, samples: Samples, *labels: str) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, documentation, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


class OwnProcessCollector(ProcessCollector):
    """Memory, descriptors and CPU of this process, under a systemd that hides the rest of /proc (ProcSubset=pid) too.

    The library reads there when the machine was started, and tells nothing at all where it cannot.
    """

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
