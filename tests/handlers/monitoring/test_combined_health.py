"""The combined health of several workers: the worst state of those that serve, and which workers are missing."""

from __future__ import annotations

import os
from typing import Any

from handlers.monitoring.combined_health import combined_health
from handlers.workers.link import WorkerRow

ME = os.getpid()


def report(status: str = "ok", *reasons: str, answering: int = 0, **unknown: int) -> dict[str, Any]:
    degraded = [{"part": "accounts", "reason": reason, "message": f"{reason}."} for reason in reasons]
    reason = reasons[0] if reasons else "ok"
    return {
        "status": status,
        "reason": reason,
        "degraded": degraded,
        "answering": answering,
        "unknown": unknown,
        "models": 3,
    }


def test_a_worker_without_others_reports_its_own_health() -> None:
    own = report("degraded", "expired", answering=2)
    assert combined_health(own, ()) == {**own, "workers": []}


def test_the_combined_health_is_the_worst_and_names_each_trouble_once() -> None:
    roster = (
        WorkerRow(1, ME, "ready", report()),
        WorkerRow(2, 7, "ready", report("down", "blocked", "expired", answering=3, tag=2)),
        WorkerRow(3, 8, "reloading", report("degraded", "expired", answering=1, tag=1)),
    )
    health = combined_health(report(answering=1), roster)
    assert (health["status"], health["reason"]) == ("down", "blocked")
    assert [trouble["reason"] for trouble in health["degraded"]] == ["blocked", "expired"]
    assert (health["answering"], health["unknown"], health["models"]) == (5, {"tag": 3}, 3)
    assert [row["state"] for row in health["workers"]] == ["ready", "ready", "reloading"]


def test_a_missing_worker_is_named_and_its_last_report_does_not_count() -> None:
    roster = (
        WorkerRow(1, ME, "ready", {}),
        WorkerRow(2, 7, "starting", {}),
        WorkerRow(3, 0, "gone", {}),
        WorkerRow(4, 9, "draining", report("down")),
    )
    health = combined_health(report(), roster)
    assert (health["status"], health["reason"]) == ("degraded", "worker")
    assert [trouble["part"] for trouble in health["degraded"]] == ["worker 2", "worker 3"]


def test_a_rolling_restart_of_the_workers_is_not_a_trouble() -> None:
    roster = (
        WorkerRow(1, 6, "draining", report(answering=4)),
        WorkerRow(1, ME, "ready", report()),
        WorkerRow(2, 7, "ready", report()),
        WorkerRow(2, 8, "starting", {}),
    )
    health = combined_health(report(), roster)
    assert (health["status"], health["degraded"], health["answering"]) == ("ok", [], 4)
