"""The metrics for Prometheus: the collectors that its client library calls at each scrape."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from platform import python_version
from resource import RLIMIT_NOFILE, getrlimit
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import bridge
from bridge.accounts.renewals import LOGIN
from bridge.accounts.status import Condition, judge
from bridge.statistics.since_start import Samples, SinceStart
from handlers.monitoring.health import health_of
from handlers.monitoring.metrics import PREFIX
from handlers.request.appkeys import CALL_QUEUE, CLIENT, COOLDOWN_WAIT, DRAIN, DRIFT, GATE, MODELS, RENEWALS, STATE
from handlers.workers.counts import Family
from upstream.accounts import AccountPool
from upstream.protocol.errors import Reason

#: The states of an account, with regard to chats.
_STATES: Final = (
    Condition.USABLE,
    Condition.COOLDOWN,
    Condition.EXPIRED,
    Condition.GUEST,
    Condition.TERMS,
    Condition.PAUSED,
)
_WALLS: Final = (Reason.CHALLENGE, Reason.BLOCKED, Reason.RECAPTCHA)


class Exposition:
    """All metrics of one daemon, in a separate registry."""

    CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, app: web.Application, counted: SinceStart) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(CountsCollector(counted))
        self._registry.register(DaemonCollector(app))
        self._registry.register(OwnProcessCollector())
        name, documentation = f"{PREFIX}event_loop_lag_seconds", "How long the event loop delayed this scrape."
        self._lag = Gauge(name, documentation, registry=self._registry)

    async def scrape(self) -> bytes:
        """The current values of all metrics, as text."""
        await self._measure_lag()
        return generate_latest(self._registry)

    async def families(self) -> list[Family]:
        """The current values of all metrics as plain values, as a worker reports them to its parent."""
        await self._measure_lag()
        return [
            (each.name, each.type, each.documentation, [(it.name, it.labels, it.value) for it in each.samples])
            for each in self._registry.collect()
        ]

    async def _measure_lag(self) -> None:
        began = time.perf_counter()
        await asyncio.sleep(0)
        self._lag.set(time.perf_counter() - began)


def text_of(families: Sequence[Family]) -> bytes:
    """The text of families given as plain values."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_PlainCollector(families))
    return generate_latest(registry)


class _PlainCollector(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, kind, documentation, samples in self._families:
            metric = Metric(name, documentation, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, labels, value)
            yield metric


class CountsCollector(Collector):
    """The counters and histograms since the daemon's start."""

    def __init__(self, counted: SinceStart) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        """Every counter and histogram."""
        for counter, samples in self._counted.counters():
            family = CounterMetricFamily(PREFIX + counter.name, counter.documentation, labels=counter.labels)
            for labels, count in samples.items():
                family.add_metric(labels, count)
            yield family
        for name, documentation, buckets, seconds in self._counted.histograms():
            yield HistogramMetricFamily(PREFIX + name, documentation, list(buckets.items()), seconds)


class DaemonCollector(Collector):
    """Gauges of the daemon's current state."""

    def __init__(self, app: web.Application) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        """All gauges, and the counter of unknown content from the site."""
        app, health = self._app, health_of(self._app)
        pool, gate, catalog = app[STATE].pool, app[GATE], app[MODELS].catalog
        alive = [account for account in pool if not account.expired]
        ending = [account.session.expires_at for account in alive if not account.session.renewable]
        troubles = Counter(trouble.reason for trouble in health.troubles)

        yield _gauge(
            "build_info",
            "Versions.",
            {(bridge.__version__, python_version()): 1},
            "version",
            "python",
        )
        yield _gauge("serving", "Whether a chat could be answered, as /readyz says.", {(): health.serving})
        yield _gauge(
            "troubles", "What is degraded, as /health lists it.", {(word,): troubles[word] for word in Reason}, "reason"
        )
        yield _gauge(
            "circuit_open",
            "Whether the site failed repeatedly.",
            {(): gate.outage is not None},
        )
        yield _gauge(
            "wall",
            "Whether the site demands a human in a browser.",
            {(word,): gate.wall is not None and gate.wall.reason is word for word in _WALLS},
            "reason",
        )
        yield _gauge(
            "accounts",
            "LMArena accounts: usable for a chat, on cooldown after a 429, expired, a guest's, or without consent to "
            "the site's terms.",
            _accounts_by_state(pool),
            "state",
        )
        yield _gauge(
            "requests_left",
            "Requests that an account has left, by what the site last said; accounts are numbered as in /health.",
            dict(_requests_left(pool)),
            "account",
            "modality",
        )
        yield _gauge(
            "session_expiry_timestamp_seconds",
            "Unix time at which the next session ends for good, of those that cannot be renewed; absent without any.",
            {(): min(ending)} if ending else {},
        )
        yield _gauge(
            "renewals_failing",
            "Accounts whose login could not be renewed at the last attempt.",
            {(): sum(a.session.renewable and app[RENEWALS].failing(a.user_id) is not None for a in alive)},
        )
        unknown = CounterMetricFamily(
            f"{PREFIX}unknown", "Content from LMArena that this version does not know, by kind.", labels=("kind",)
        )
        for kind, count in app[DRIFT].counts.items():
            unknown.add_metric((kind,), count)
        yield unknown
        yield _gauge(
            "clock_skew_seconds",
            "How far LMArena's clock is ahead of this machine's; 0 while that is tolerable.",
            {(): app[CLIENT].clock.skew},
        )
        yield _gauge("models", "Models in the list.", {(): len(catalog) if catalog is not None else 0})
        yield _gauge("keys", "API keys.", {(): len(app[STATE].keys)})
        yield _gauge("answers_running", "Running answers.", {(): app[DRAIN].running})
        waiting = len(app[CALL_QUEUE]) + len(app[COOLDOWN_WAIT].queue)
        yield _gauge("requests_waiting", "Requests that wait at a limit.", {(): waiting})


def _accounts_by_state(pool: AccountPool) -> Samples:
    """The number of accounts in each state, with regard to chats."""
    now = time.time()
    obstacles = (judge(account, now, now).obstacle for account in pool)
    counted = Counter(Condition.USABLE if obstacle is None else obstacle.condition for obstacle in obstacles)
    return {(state.value,): counted[state] for state in _STATES}


def _requests_left(pool: AccountPool) -> Iterator[tuple[tuple[str, str], float]]:
    """How many requests are left, by account and modality, where that is known."""
    for number, account in enumerate(pool, 1):
        for kind in pool.limits(account.user_id):
            left = pool.requests_left(account.user_id, kind)
            if left is not None and kind != LOGIN:
                yield (f"{number}", kind), left


def _gauge(name: str, documentation: str, samples: Samples, *labels: str) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, documentation, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


class OwnProcessCollector(Collector):
    """Memory, descriptors and CPU time of this process, under the standard names of Prometheus clients.

    The library's own collector reports nothing if it cannot read the machine's boot time, which a hardened systemd unit
    hides (ProcSubset=pid).
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def collect(self) -> Iterator[Metric]:
        """Read /proc; yields nothing without it."""
        try:
            # The name in brackets may contain anything; the first field after it is proc(5)'s field 3, the state.
            fields = (self._proc / "self/stat").read_text().rpartition(")")[2].split()
            descriptors = sum(1 for _ in (self._proc / "self/fd").iterdir())
        except OSError:
            return
        user, system, started, virtual, pages = (int(fields[at - 3]) for at in (14, 15, 22, 23, 24))
        ticks = os.sysconf("SC_CLK_TCK")
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        yield CounterMetricFamily(
            "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", (user + system) / ticks
        )
        for name, documentation, value in (
            ("virtual_memory_bytes", "Virtual memory size in bytes.", virtual),
            ("resident_memory_bytes", "Resident memory size in bytes.", pages * os.sysconf("SC_PAGE_SIZE")),
            ("start_time_seconds", "Start time of the process since unix epoch in seconds.", booted + started / ticks),
            ("open_fds", "Number of open file descriptors.", descriptors),
            ("max_fds", "Maximum number of open file descriptors.", getrlimit(RLIMIT_NOFILE)[0]),
        ):
            yield GaugeMetricFamily(f"process_{name}", documentation, value)
