"""The body of /health described (docs/behaviour.md, "Health and metrics")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.schema import Schema, answered, array, text, whole, word
from handlers.monitoring.whole import DOWN
from upstream.protocol.errors import Reason

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Health": answered(
        {
            "status": word("ok", "degraded", DOWN),
            "reason": word(*Reason, about="Of the first trouble."),
            "degraded": array(
                answered({"part": text(), "reason": word(*Reason), "message": text()}),
                "What is wrong. Accounts are numbered, not named.",
            ),
            "accounts": answered({"total": whole(), "usable": whole()}),
            "models": whole("How many there are."),
            "answering": whole("Answers that run now."),
            "unknown": {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "description": "What came from the site that this version does not know, counted by kind.",
            },
        },
        {"workers": array({"type": "object"}, "With several processes: each one and its state.")},
    ),
}
