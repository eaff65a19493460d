"""Whether an account's known chats are continued, or sent whole to a new evaluation for each turn.

The site may demand a battle instead of the next turn (docs/protocol.md, "Evaluations"). Each such refusal costs a call,
so after several in a row an account's chats are sent whole for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: After this many refused follow-ups in a row an account's follow-ups are suspended.
REFUSALS_IN_A_ROW: Final = 3
#: For how long they are suspended, in seconds.
SUSPENSION_SECONDS: Final = 3600.0


@dataclass(slots=True)
class _Refusals:
    in_a_row: int = 0
    suspended_until: float = 0.0


class FollowUps:
    """Tracks refused follow-ups by account; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: dict[str, _Refusals] = {}

    def are_allowed(self, user_id: str) -> bool:
        """Whether follow-ups should be sent with this account."""
        account = self._accounts.get(user_id)
        return account is None or self._clock() >= account.suspended_until

    def refused(self, user_id: str) -> None:
        """Record that the site demanded a battle instead of a follow-up."""
        account = self._accounts.setdefault(user_id, _Refusals())
        account.in_a_row += 1
        if account.in_a_row >= REFUSALS_IN_A_ROW:
            account.in_a_row = 0
            account.suspended_until = self._clock() + SUSPENSION_SECONDS

    def accepted(self, user_id: str) -> None:
        """Record that the site accepted a follow-up: earlier refusals no longer count."""
        self._accounts.pop(user_id, None)
