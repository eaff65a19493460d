"""What the arena remembers of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upstream.arena.accounts import Session


@dataclass(slots=True, eq=False)
class Call:
    """One request as received, filled in while it is answered. Cookies and bodies stay out of its repr."""

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
    fault: str | None = None  # the armed fault that acted on it
    status: int | None = None  # None where no status was ever sent
    refusal: str | None = None  # why the site said no
    lines_sent: int = 0
    signed_ago: float = 0.0  # a fault's doing: the age in seconds of the signed URL that it is answered with
    action_error: str | None = None  # a fault's doing: the action does not succeed
    battle_wanted: bool = False  # a fault's doing: the site insists on a battle
    renews: bool = False  # its answer brings the session new tokens
    closed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)  # the caller left before the end
    done: asyncio.Event = field(default_factory=asyncio.Event, repr=False)  # answering has ended, either way

    @property
    def account(self) -> str | None:
        """The user id of whoever called."""
        return None if self.session is None else self.session.user_id

    def summary(self) -> dict[str, Any]:
        """The call as JSON without its headers, which hold the cookies."""
        names = ("method", "path", "kind", "account", "evaluation_id", "model_id")
        more = ("fault", "status", "refusal", "lines_sent")
        return {
            **{name: getattr(self, name) for name in names + more},
            "closed": self.closed.is_set(),
            "done": self.done.is_set(),
            "body": self.body.decode(errors="replace"),
        }
