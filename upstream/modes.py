"""The mode that a new evaluation must name: which one the site takes from which account, and how that is found out.

The site has changed it before (docs/protocol.md, "Evaluations"), so it is learned from the site's answers and kept.
While several new evaluations are unanswered, further ones wait for a moment, so that another change costs a few refused
calls and not one for each waiting caller.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

#: Every mode that is known, the likeliest first.
MODES: Final = ("direct-battle", "direct")
#: So many new evaluations may be unanswered before further ones wait.
UNANSWERED: Final = 4
#: A refusal of the mode comes at once: a call that has been out for so many seconds was not refused for it.
PATIENCE_SECONDS: Final = 0.25


class Modes:
    """The modes as learned so far; `on_change` is called when there is something to save.

    `default` is what was learned last from any account, `of_accounts` what was learned from each (by user id).
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.default = MODES[0]
        self.of_accounts: dict[str, str] = {}
        self._on_change = on_change
        self._unconfirmed = False  # a refusal has changed the modes, and no call has shown yet that it was right
        self._unanswered: dict[object, float] = {}  # when each call was sent, the oldest first
        self._accepted_at = -math.inf
        self._waiting: list[asyncio.Future[None]] = []

    def load(self, default: str, of_accounts: Mapping[str, str]) -> None:
        """Take over what an earlier run has learned; modes that are not known are left out."""
        self.default = default if default in MODES else MODES[0]
        self.of_accounts = {user_id: mode for user_id, mode in of_accounts.items() if mode in MODES}

    def choose(self, user_id: str) -> str:
        """The mode that a new evaluation of this account should name."""
        return self.of_accounts.get(user_id, self.default)

    async def wait_for_room(self) -> None:
        """Wait while too many new evaluations are unanswered, for `PATIENCE_SECONDS` at most."""
        while (wait := self._wait_seconds()) > 0:
            news = asyncio.get_running_loop().create_future()
            self._waiting.append(news)
            await asyncio.wait((news,), timeout=wait)

    def _wait_seconds(self) -> float:
        if len(self._unanswered) < UNANSWERED:
            return 0.0
        oldest = next(iter(self._unanswered.values()))
        if self._accepted_at >= oldest:  # the mode was good a moment ago
            return 0.0
        return oldest + PATIENCE_SECONDS - monotonic()

    def sent(self) -> object:
        """A new evaluation is being sent; return what `answered` must be given."""
        call = object()
        self._unanswered[call] = monotonic()
        return call

    def answered(self, call: object) -> None:
        """The head of the answer has come, or the call has failed: let others look again whether they must wait."""
        del self._unanswered[call]
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            if not news.done():
                news.set_result(None)

    def accepted(self, user_id: str, mode: str) -> None:
        """The site began a new evaluation of this account in this mode."""
        self._accepted_at = monotonic()
        if self._unconfirmed or self.of_accounts.get(user_id) != mode:
            self._unconfirmed = False
            self.default = self.of_accounts[user_id] = mode
            self._on_change()

    def refused(self, user_id: str, mode: str) -> None:
        """The site refused this mode to this account: the other one is tried next."""
        other = MODES[1 - MODES.index(mode)]
        if self.default == mode:
            self.default = other
        if self.of_accounts.get(user_id, mode) == mode:
            self.of_accounts[user_id] = other
        self._unconfirmed = True

    def forget(self, known: Callable[[str], bool]) -> None:
        """Drop what was learned of accounts that are gone."""
        self.of_accounts = {user_id: mode for user_id, mode in self.of_accounts.items() if known(user_id)}
