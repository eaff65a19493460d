"""The daemon's health: what works and what does not, and why, in the vocabulary of diagnosis. It has no secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from bridge.accounts.status import Condition, FailedRenewal, judge
from bridge.diagnosis import ADVICE, CLOCK_ADVICE, sentence
from bridge.log import event
from upstream.accounts import AccountPool
from upstream.protocol.catalog import Catalog
from upstream.protocol.errors import Reason, UpstreamError

_logger = logging.getLogger(__name__)


class Trouble(NamedTuple):
    """One problem: the affected part, the word of diagnosis, and what has happened.

    `label` is an account's label, often an e-mail address, which may be shown to the operator only; `part` has the
    account's number instead. `to_do` is '' if there is nothing to add to `bridge.diagnosis.ADVICE`.
    """

    part: str
    reason: Reason
    what: str
    label: str | None = None
    to_do: str = ""

    @property
    def where(self) -> str:
        """The part as the operator knows it."""
        return self.part if self.label is None else f"account {self.label}"

    @property
    def message(self) -> str:
        """What has happened and what to do, as a sentence."""
        return sentence(f"{self.what}: {self.to_do}" if self.to_do else self.what)

    def to_json(self) -> dict[str, str]:
        """Plain values for `/health`, which is public."""
        return {"part": self.part, "reason": self.reason.value, "message": self.message}


class Health(NamedTuple):
    """The state of the daemon; `serving` is whether a chat could be answered now."""

    serving: bool
    troubles: tuple[Trouble, ...]


def examine(
    pool: AccountPool,
    catalog: Catalog | None,
    *,
    failing: Callable[[str], FailedRenewal | None],
    models_failure: UpstreamError | None,
    wall: UpstreamError | None,
    outage: UpstreamError | None,
    now: float,
    skew: float,
    state: str = "",
) -> Health:
    """Find the problems of every part.

    `failing` returns, for a user id, why the renewal of the login fails. `wall` and `outage` are the gate's: why the
    site demands a human, and why it fails. `now` is unix time in seconds by this machine's clock, `skew` the seconds
    that the site's clock is ahead of it, 0 if that is tolerable. `state` says why the shared state cannot be used, ''
    if it can, or if the state is in files.
    """
    usable = bool(pool.usable("chat"))
    troubles = [
        Trouble(f"account {number}", finding.reason, finding.what, account.label, finding.to_do)
        for number, account in enumerate(pool, 1)
        for finding in judge(account, now, now + skew, failing(account.user_id)).findings
        if finding.condition is not Condition.PAUSED or not usable  # a pause is no problem while others answer
    ]
    if not len(pool):
        to_do = ADVICE[Reason.NO_ACCOUNT].now
        troubles.append(Trouble("accounts", Reason.NO_ACCOUNT, "no account", to_do=to_do))
    if catalog is None:
        why = str(models_failure) if models_failure else "The first reading is under way."
        reason = models_failure.reason if models_failure else Reason.UNREACHABLE
        troubles.append(Trouble("models", reason, f"No list of models yet. {why}"))
    elif models_failure is not None:
        troubles.append(
            Trouble("models", models_failure.reason, f"The list of models is out of date. {models_failure}")
        )
    troubles += [Trouble("site", error.reason, error.message) for error in (wall, outage) if error is not None]
    if state:
        troubles.append(Trouble("state", Reason.STATE, state, to_do=ADVICE[Reason.STATE].now))
    if skew:
        troubles.append(Trouble("clock", Reason.REJECTED, clock_difference(skew), to_do=CLOCK_ADVICE.now))
    return Health(catalog is not None and usable and wall is None, tuple(troubles))


class TroubleLog:
    """Logs each problem when it begins and when it ends, rather than for every request that it affects."""

    def __init__(self, examine: Callable[[], Health]) -> None:
        self._examine = examine
        self._known: dict[tuple[str, Reason], Trouble] = {}

    async def __call__(self) -> None:
        """Examine the daemon, and log what has changed since the last call."""
        troubles = {(trouble.where, trouble.reason): trouble for trouble in self._examine().troubles}
        for key, trouble in troubles.items():
            if key not in self._known:
                event(_logger, logging.WARNING, f"{trouble.where}: {trouble.message}", reason=trouble.reason.value)
        for where, reason in self._known.keys() - troubles.keys():
            event(_logger, logging.INFO, f"{where}: recovered", reason=reason.value)
        self._known = troubles


def clock_difference(skew: float) -> str:
    """A clause that says how wrong this machine's clock is. `skew` is as for `examine`."""
    return f"this machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} LMArena's"
