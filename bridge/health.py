"""How the daemon is: what works, what is degraded, and why, in the vocabulary of diagnosis. No secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from bridge.log import event
from upstream.accounts import EXPIRY_WARNING_SECONDS, AccountPool
from upstream.catalog import Catalog
from upstream.errors import Reason, UpstreamError

_logger = logging.getLogger(__name__)


class Trouble(NamedTuple):
    """One thing that is not as it should be: where, the word of diagnosis, and what to do now.

    `label` is an account's, often an address, which is for its owner alone; `part` gives its place in the list.
    """

    part: str
    reason: Reason
    message: str
    label: str | None = None

    @property
    def where(self) -> str:
        """The part as its owner calls it."""
        return self.part if self.label is None else f"account {self.label}"

    def to_json(self) -> dict[str, str]:
        """Plain values, as `/health` shows them to anybody."""
        return {"part": self.part, "reason": self.reason.value, "message": self.message}


class Health(NamedTuple):
    """`serving` is whether a chat could be answered now."""

    serving: bool
    troubles: tuple[Trouble, ...]


def examine(
    pool: AccountPool,
    catalog: Catalog | None,
    *,
    models_failure: UpstreamError | None,
    wall: UpstreamError | None,
    outage: UpstreamError | None,
    now: float,
) -> Health:
    """Look at every part. `now` is unix time in seconds."""
    troubles = list(_account_troubles(pool, now))
    if not len(pool):
        troubles.append(Trouble("accounts", Reason.NO_ACCOUNT, "No account: run `lmarena-bridge accounts add`."))
    if catalog is None:
        why = f"{models_failure}" if models_failure else "The first reading is under way."
        reason = models_failure.reason if models_failure else Reason.UNREACHABLE
        troubles.append(Trouble("models", reason, f"No list of models yet. {why}"))
    elif models_failure is not None:
        troubles.append(Trouble("models", models_failure.reason, f"The list of models is not fresh. {models_failure}"))
    troubles += [Trouble("site", error.reason, error.message) for error in (wall, outage) if error is not None]
    return Health(catalog is not None and bool(pool.usable("chat")) and wall is None, tuple(troubles))


class Watch:
    """Logs what begins to be wrong, and what is well again: once each, not with every request that suffers."""

    def __init__(self, examine: Callable[[], Health]) -> None:
        self._examine = examine
        self._known: dict[tuple[str, Reason], Trouble] = {}

    async def __call__(self) -> None:
        """Look, and log what has changed since the last look."""
        troubles = {(trouble.where, trouble.reason): trouble for trouble in self._examine().troubles}
        for key, trouble in troubles.items():
            if key not in self._known:
                event(_logger, logging.WARNING, f"{trouble.where}: {trouble.message}", reason=trouble.reason.value)
        for where, reason in self._known.keys() - troubles.keys():
            event(_logger, logging.INFO, f"{where}: well again", reason=reason.value)
        self._known = troubles


def _account_troubles(pool: AccountPool, now: float) -> list[Trouble]:
    troubles = []
    for number, account in enumerate(pool, 1):
        part, label, left = f"account {number}", account.label, account.session.expires_at - now
        if account.expired:
            message = "Its session cookie has expired: renew it with `lmarena-bridge accounts add`."
            troubles.append(Trouble(part, Reason.EXPIRED, message, label))
        elif left < EXPIRY_WARNING_SECONDS:
            when = f"expires in {max(0, left) / 3600:.0f} h" if left > 0 else "is past its time"
            message = f"Its session cookie {when}: renew it in time."
            troubles.append(Trouble(part, Reason.EXPIRED, message, label))
        for modality in account.resting:
            if rest := account.rests(modality, now):
                message = f"Rests for {rest:.0f} s from {modality} after a 429."
                troubles.append(Trouble(part, Reason.RATE_LIMITED, message, label))
    return troubles
