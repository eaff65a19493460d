"""Whether an account's known chats are continued, or sent whole to a new evaluation each time.

The site may demand a battle instead of the next turn (docs/protocol.md, "Evaluations"). Such a refusal costs a call, so
an account that meets several of them in a row is spared further ones for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: So many follow-ups of an account must be refused in a row.
REFUSALS_IN_A_ROW: Final = 3
#: For so long no follow-up is tried with it then, in seconds.
PAUSE_SECONDS: Final = 3600.0


@dataclass(slots=True)
class _Refusals:
    in_a_row: int = 0
    paused_until: float = 0.0


class FollowUps:
    """What follow-ups of each account met; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: dict[str, _Refusals] = {}

    def are_tried(self, user_id: str) -> bool:
        """Whether a follow-up of this account is worth a call."""
        account = self._accounts.get(user_id)
        return account is None or self._clock() >= account.paused_until

    def refused(self, user_id: str) -> None:
        """The site demanded a battle in place of a follow-up."""
        account = self._accounts.setdefault(user_id, _Refusals())
        account.in_a_row += 1
        if account.in_a_row >= REFUSALS_IN_A_ROW:
            account.in_a_row = 0
            account.paused_until = self._clock() + PAUSE_SECONDS

    def taken(self, user_id: str) -> None:
        """The site took a follow-up: what was refused before no longer counts."""
        if user_id in self._accounts:
            del self._accounts[user_id]
