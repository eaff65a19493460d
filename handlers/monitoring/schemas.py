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
            "reason": literal(*Reason, about="The word of diagnosis of the first problem."),
            "degraded": array(
                output_object({"part": string(), "reason": literal(*Reason), "message": string()}),
                "What is wrong. Accounts are numbered, not named.",
            ),
            "accounts": output_object({"total": integer(), "usable": integer()}),
            "models": integer("The number of models."),
            "answering": integer("The number of answers in progress."),
            "unknown": {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "description": "Data from the site that this version of the bridge does not know, counted by kind.",
            },
        },
        {"workers": array({"type": "object"}, "Only with several processes: each process and its state.")},
    ),
}
