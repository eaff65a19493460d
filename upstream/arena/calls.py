"""The arena's record of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upstream.arena.accounts import Session


@dataclass(slots=True, eq=False)
class Call:
    """One request, updated while it is answered. Its repr contains neither cookies nor the body."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(repr=False)
    # page, script, catalog, me, evaluation, create, follow-up, regenerate, action; a known action is upload-url or sign
    kind: str = "unknown"
    session: Session | None = field(default=None, repr=False)
    evaluation_id: str | None = None
    model_id: str | None = None
    fault: str | None = None  # the armed fault that was applied to it
    status: int | None = None  # None if no status was sent
    refusal: str | None = None  # why the site refused it
    lines_sent: int = 0
    signed_ago: float = 0.0  # set by a fault: the age in seconds of the signed URL in the answer
    action_error: str | None = None  # set by a fault: the action fails with this message
    battle_required: bool = False  # set by a fault: the site demands a battle
    renews: bool = False  # whether the answer gives the session new tokens
    closed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)  # the caller left before the end
    done: asyncio.Event = field(default_factory=asyncio.Event, repr=False)  # the call is over, for any reason

    @property
    def account(self) -> str | None:
        """The user id of the caller."""
        return None if self.session is None else self.session.user_id

    def summary(self) -> dict[str, Any]:
        """The call as JSON, without headers, which contain the cookies."""
        names = ("method", "path", "kind", "account", "evaluation_id", "model_id")
        more = ("fault", "status", "refusal", "lines_sent")
        return {
            **{name: getattr(self, name) for name in names + more},
            "closed": self.closed.is_set(),
            "done": self.done.is_set(),
            "body": self.body.decode(errors="replace"),
        }
