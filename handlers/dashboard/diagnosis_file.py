"""The diagnosis: one JSON document for a bug report, without secrets, and without names of people, keys or machines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from bridge.config.shown import shown_settings
from bridge.state.sizes import FolderEntry
from bridge.statistics.stats import Stats
from handlers.daemon.reloading import RELOADING
from handlers.dashboard.headline import RECENT_MINUTES
from handlers.dashboard.process import Process, libraries
from handlers.dashboard.wording import iso
from handlers.monitoring.health import health_of_all
from handlers.request.appkeys import MODELS, SETTINGS, SHARING, STATE

#: The files of the state folder that the bridge writes; others are counted together.
_DOCUMENTS: Final = (
    "accounts",
    "admin",
    "budgets",
    "conversations",
    "keys",
    "model_news",
    "models",
    "responses",
    "site",
    "stats",
)
_OWN_FILES: Final = frozenset(("activity", *(f"{name}.json" for name in _DOCUMENTS)))


def diagnosis(app: web.Application, process: Process, stats: Stats) -> dict[str, Any]:
    """Plain values: versions, settings, health words, sizes, and how requests ended."""
    health = health_of_all(app)
    reloading, models = app[RELOADING], app[MODELS]
    return {
        "made": iso(time.time()),
        "versions": {"bridge": process.version, "python": process.python, "system": process.system, **libraries()},
        "process": {
            "uptime_seconds": round(process.uptime),
            "memory_bytes": process.memory,
            "open_files": process.open_files,
            "open_files_limit": process.limit,
            "worker": None if process.worker is None else process.worker._asdict(),
            "state": "files" if app[SHARING] is None else "redis",
        },
        "health": {
            "status": health["status"],
            "reason": health["reason"],
            "degraded": [{"part": each["part"], "reason": each["reason"]} for each in health["degraded"]],
            "unknown": health["unknown"],
            "answering": health["answering"],
        },
        "accounts": health["accounts"],
        "keys": len(app[STATE].keys),
        "models": {
            "count": health["models"],
            "failure": None if models.failure is None else models.failure.reason.value,
            "seconds_to_next_reading": None if models.next_reading is None else round(models.next_reading),
        },
        "settings": {each.name: each.to_report() for each in shown_settings(app[SETTINGS].config)},
        "needs_restart": [change.name for change in reloading.needing_restart],
        "state_bytes": _sizes(process.files),
        "endings": {
            f"last_{RECENT_MINUTES}_minutes": _endings(stats, "minute", RECENT_MINUTES),
            "last_24_hours": _endings(stats, "hour", 24),
            "ever": {str(word): count for word, count in stats.reasons.most_common() if count},
        },
    }


def _sizes(files: Sequence[FolderEntry]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for entry in files:
        sizes[entry.name if entry.name in _OWN_FILES else "others"] += entry.size
    return dict(sorted(sizes.items()))


def _endings(stats: Stats, series: Any, periods: int) -> dict[str, int]:
    """How the requests of the last periods ended, by the word of diagnosis, the commonest first."""
    sums: Counter[str] = Counter()
    for bucket in stats.series(series)[-periods:]:
        sums.update(bucket.endings)
    return dict(sums.most_common())
