"""The mode that a new evaluation must name, learned for each account from the site's answers.

The site has changed it before (docs/protocol.md, "Evaluations"). While several new evaluations are pending, further
ones wait for a moment, so that another change costs a few refused calls and not one for each waiting caller.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

#: All known modes, the likeliest first.
MODES: Final = ("direct-battle", "direct")
#: How many new evaluations may be pending before further ones wait.
MAX_PENDING: Final = 4
#: The site refuses a mode immediately: a call that is pending for longer, in seconds, was not refused for its mode.
PATIENCE_SECONDS: Final = 0.25


class Modes:
    """The modes learned so far; `on_change` is called when there is something to save.

    `default` is the mode that any account learned last, `by_account` has the mode of each account by user id.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.default = MODES[0]
        self.by_account: dict[str, str] = {}
        self._on_change = on_change
        self._unconfirmed = False  # a refusal has changed the modes, and no call has confirmed that yet
        self._pending: dict[object, float] = {}  # when each call was sent, the oldest first
        self._accepted_at = -math.inf
        self._waiting: dict[asyncio.Future[bool], None] = {}  # true: send now; false: look again

    def load(self, default: str, by_account: Mapping[str, str]) -> None:
        """Load what an earlier run has learned; unknown modes are ignored."""
        self.default = default if default in MODES else MODES[0]
        self.by_account = {user_id: mode for user_id, mode in by_account.items() if mode in MODES}

    def choose(self, user_id: str) -> str:
        """Return the mode for a new evaluation of this account."""
        return self.by_account.get(user_id, self.default)

    async def wait_for_room(self) -> None:
        """Wait while too many new evaluations are pending, at most until the oldest is `PATIENCE_SECONDS` old."""
        while (wait := self._wait_seconds()) > 0:
            woken = asyncio.get_running_loop().create_future()
            self._waiting[woken] = None
            try:
                await asyncio.wait((woken,), timeout=wait)
            finally:
                self._waiting.pop(woken, None)
            if woken.done() and woken.result():
                return

    def _wait_seconds(self) -> float:
        if len(self._pending) < MAX_PENDING:
            return 0.0
        oldest = next(iter(self._pending.values()))
        if self._accepted_at >= oldest:  # the mode has been accepted since
            return 0.0
        return oldest + PATIENCE_SECONDS - monotonic()

    def sent(self) -> object:
        """Register a new evaluation as pending; return the argument for `answered`."""
        call = object()
        self._pending[call] = monotonic()
        return call

    def answered(self, call: object) -> None:
        """The answer's head has arrived, or the call has failed: as many waiting calls look again as there is room."""
        del self._pending[call]
        if self._waiting:
            self._wake(MAX_PENDING - len(self._pending), send=False)

    def accepted(self, user_id: str, mode: str) -> None:
        """Record that the site accepted this mode from this account: all waiting calls may be sent."""
        self._accepted_at = monotonic()
        if self._waiting:
            self._wake(len(self._waiting), send=True)
        if self._unconfirmed or self.by_account.get(user_id) != mode:
            self._unconfirmed = False
            self.default = self.by_account[user_id] = mode
            self._on_change()

    def _wake(self, count: int, *, send: bool) -> None:
        for woken in list(self._waiting)[: max(count, 0)]:
            del self._waiting[woken]
            if not woken.done():
                woken.set_result(send)

    def refused(self, user_id: str, mode: str) -> None:
        """Record that the site refused this mode to this account, so that the other one is used next."""
        other = MODES[1 - MODES.index(mode)]
        if self.default == mode:
            self.default = other
        if self.by_account.get(user_id, mode) == mode:
            self.by_account[user_id] = other
        self._unconfirmed = True

    def forget(self, known: Callable[[str], bool]) -> None:
        """Drop the modes of accounts that no longer exist."""
        self.by_account = {user_id: mode for user_id, mode in self.by_account.items() if known(user_id)}
