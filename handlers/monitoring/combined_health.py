"""The health of all workers behind one address together; each worker gets that of the others from the parent."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from bridge.diagnosis import ADVICE
from bridge.health import Trouble
from handlers.workers.lines import WorkerState
from handlers.workers.link import WorkerRow
from upstream.protocol.errors import Reason

DOWN: Final = "down"
#: The worst comes last.
_STATUSES: Final = ("ok", "degraded", DOWN)
#: The states in which a worker serves, and those in which it is to serve but does not yet.
_SERVING: Final = frozenset((WorkerState.READY, WorkerState.RELOADING))
_COMING: Final = frozenset((WorkerState.STARTING, WorkerState.GONE))


def combined_health(own: Mapping[str, Any], roster: Collection[WorkerRow]) -> Mapping[str, Any]:
    """The health of all workers, in the form of one worker's: the worst status, and everything that is degraded.

    `own` is this worker's current health; it alone counts while the roster is empty.
    """
    others = [row for row in roster if row.pid != os.getpid()]
    reports = [own, *(row.report for row in others if row.state in _SERVING and row.report)]
    degraded = [trouble for report in reports for trouble in report["degraded"]]
    degraded += [trouble.to_json() for trouble in _missing_workers(roster)]
    status = max((report["status"] for report in reports), key=_STATUSES.index)
    unknown: Counter[str] = Counter()
    for report in reports:
        unknown.update(report["unknown"])
    return {
        **own,
        "status": "degraded" if degraded and status == "ok" else status,
        "reason": next((trouble["reason"] for trouble in degraded), Reason.OK.value),
        "degraded": list({tuple(trouble.items()): trouble for trouble in degraded}.values()),
        "answering": own["answering"] + sum(row.report["answering"] for row in others if row.report),
        "unknown": dict(unknown),
        "workers": [{"worker": row.worker, "state": row.state} for row in roster],
    }


def _missing_workers(roster: Collection[WorkerRow]) -> Iterator[Trouble]:
    """A trouble for each worker that has ended and does not serve again yet."""
    for number in sorted({row.worker for row in roster}):
        if all(row.state in _COMING for row in roster if row.worker == number):
            yield Trouble(f"worker {number}", Reason.WORKER, f"it does not serve now: {ADVICE[Reason.WORKER].why}")
