"""The schema of the body of /health (docs/behaviour.md, "Health and metrics")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.schema import Schema, array, integer, literal, output_object, string
from handlers.monitoring.combined_health import DOWN
from upstream.protocol.errors import Reason

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Health": output_object(
        {
            "status": literal("ok", "degraded", DOWN),
            "reason": literal(*Reason, about="Of the first trouble."),
            "degraded": array(
                output_object({"part": string(), "reason": literal(*Reason), "message": string()}),
                "What is wrong. Accounts are numbered, not named.",
            ),
            "accounts": output_object({"total": integer(), "usable": integer()}),
            "models": integer("How many there are."),
            "answering": integer("Answers that run now."),
            "unknown": {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "description": "What came from the site that this version does not know, counted by kind.",
            },
        },
        {"workers": array({"type": "object"}, "With several processes: each one and its state.")},
    ),
}
