"""The health of this process, and of all workers together, for `/health`, the probes and the dashboard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.health import Health, examine
from handlers.monitoring.combined_health import DOWN, combined_health
from handlers.request.appkeys import CLIENT, DRAIN, DRIFT, GATE, MODELS, RENEWALS, SHARING, STATE
from handlers.workers.link import LINK
from upstream.protocol.errors import Reason


def health_of_all(app: web.Application) -> Mapping[str, Any]:
    """The body of `/health`: this process's health, or that of all workers together if it is one of several."""
    own, link = report(app), app.get(LINK)
    return own if link is None else combined_health(own, link.roster)


def report(app: web.Application) -> dict[str, Any]:
    """This process's health as plain values.

    `unknown` counts by kind the content from the site that this version does not know, since the start
    (`upstream.protocol.drift`).
    """
    models, health = app[MODELS], health_of(app)
    reason = health.troubles[0].reason if health.troubles else Reason.OK
    return {
        "status": "ok" if not health.troubles else "degraded" if health.serving else DOWN,
        "reason": reason.value,
        "degraded": [trouble.to_json() for trouble in health.troubles],
        "accounts": {"total": len(app[STATE].pool), "usable": len(app[STATE].pool.usable("chat"))},
        "models": len(models.catalog) if models.catalog is not None else 0,
        "answering": app[DRAIN].running,
        "unknown": dict(app[DRIFT].counts),
    }


def health_of(app: web.Application) -> Health:
    """Examine every part of the daemon."""
    models, gate, sharing = app[MODELS], app[GATE], app[SHARING]
    return examine(
        app[STATE].pool,
        models.catalog,
        failing=app[RENEWALS].failing,
        models_failure=models.failure,
        wall=gate.wall,
        outage=gate.outage,
        now=time.time(),
        skew=app[CLIENT].clock.skew,
        state="" if sharing is None else sharing.trouble,
    )
