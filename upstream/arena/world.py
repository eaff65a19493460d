"""The state of the site: accounts, evaluations, models, the deployment, the storage, and armed faults."""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from upstream.arena import replies
from upstream.arena.accounts import Accounts, Session
from upstream.arena.calls import Call
from upstream.arena.deployment import Deployment
from upstream.arena.evaluations import Evaluation, Turn
from upstream.arena.faults import STREAM_KINDS, Faults
from upstream.arena.models import Model, builtin_models, replaced_ids
from upstream.arena.playback import Playback
from upstream.arena.replies import Header, Issue, RefusedError
from upstream.arena.steps import Step
from upstream.arena.storage import Storage
from upstream.arena.traits import Era, Traits

Script: TypeAlias = Callable[[Turn], AsyncIterator[Step] | Iterable[Step]]

# Bounds for an arena that runs for weeks; the oldest entries are evicted first.
_CALLS: Final = 10_000
_EVALUATIONS: Final = 10_000
_IDS: Final = 200_000

_LIMIT, _WINDOW_SECONDS = 3000, 300  # as in the captured header `ratelimit-policy: 3000;w=300`
_LOGIN_SECONDS: Final[dict[Era, float]] = {2025: 7 * 86400.0, 2026: 3600.0}  # lifetime of a new access token


class World(Traits):
    """The state of LMArena's site and storage that tests may read and change.

    `clock` returns the time in unix seconds; tests may replace it. If `clearance` is set, calls must have that
    `cf_clearance`; if `script` is set, it answers for every model.
    """

    def __init__(self, *, era: Era = 2026, pace: float = 0.0, models: Sequence[Model] | None = None) -> None:
        super().__init__(era)
        self.origin = ""
        self.pace = pace
        self.clock: Callable[[], float] = time.time
        self.models: tuple[Model, ...] = builtin_models() if models is None else tuple(models)
        self.clearance: str | None = None
        self.script: Script | None = None
        #: Recorded answers that take the place of the arena's own, if any.
        self.playback: Playback | None = None
        self.faults = Faults()
        self.storage = Storage(secrets.token_bytes(32), self.faults, lambda: self.clock())
        self.evaluations: dict[str, Evaluation] = {}
        self.calls: deque[Call] = deque(maxlen=_CALLS)
        self.deployment = Deployment(1)
        self.accounts = Accounts()
        self._used_ids: dict[str, None] = {}
        self._answered: Counter[str] = Counter()  # streams per account, for the ratelimit headers
        self._generation = 0  # of the models' ids

    @property
    def chats(self) -> list[Call]:
        """The calls for a model's answer, in the order of arrival."""
        return [call for call in self.calls if call.kind in STREAM_KINDS]

    def sign_in(
        self,
        email: str = "ada@example.org",
        *,
        expires_in: float | None = None,
        guest: bool = False,
        consented: bool = True,
        renewable: bool = True,
    ) -> Session:
        """Log in to the account with this address; its access token is valid for `expires_in` seconds.

        The default is an hour in 2026, and a week in 2025. `guest`: the user has not signed in, and the address is only
        a name. `consented`: whether the account has accepted the terms of use. `renewable`: whether the session has a
        refresh token; without one it expires for good with its access token.
        """
        now = self.clock()
        seconds = _LOGIN_SECONDS[self.era] if expires_in is None else expires_in
        return self.accounts.sign_in(
            email, expires_at=int(now + seconds), now=now, guest=guest, consented=consented, renewable=renewable
        )

    def expire(self, session: Session) -> None:
        """End the session: its cookie is refused from now on, and cannot be renewed."""
        session.alive = False

    def rotate(self, session: Session, pieces: bool = False) -> None:
        """Make the next answer to this session set a new cookie; the old one is then no longer valid."""
        session.rotate(pieces=pieces)

    def deploy(self) -> None:
        """Deploy the site again, with new script names and action ids."""
        self.deployment = Deployment(self.deployment.number + 1)

    def model(self, name: str) -> Model:
        """The first model with that public name or id. Raises KeyError."""
        for model in self.models:
            if name in (model.public_name, model.id):
                return model
        raise KeyError(name)

    def replace_model_ids(self) -> None:
        """Give every model a new id; the old ids are unknown from now on."""
        self._generation += 1
        replaced = replaced_ids(self.models, self._generation)
        self.models = tuple(replaced.values())
        for evaluation in self.evaluations.values():
            evaluation.model = replaced.get(evaluation.model.id, evaluation.model)

    def page_entries(self) -> list[dict[str, Any]] | None:
        """The models in the page's format; None if it has no list."""
        return [model.page_entry(self.era) for model in self.models] if self.page_models else None

    def timestamp(self) -> str:
        """The current time in the format of the site's JSON."""
        return datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def remember(self, evaluation: Evaluation) -> None:
        """Add a new evaluation."""
        self.evaluations[evaluation.id] = evaluation
        _trim(self.evaluations, _EVALUATIONS)

    def use_ids(self, **ids: str) -> None:
        """Mark ids as used, even if a fault then refuses the call. Raises RefusedError for ids used before."""
        if used := [Issue((name,), "already exists") for name, value in ids.items() if value in self._used_ids]:
            raise RefusedError(replies.invalid(used))
        self._used_ids.update(dict.fromkeys(ids.values()))
        _trim(self._used_ids, _IDS)

    def ratelimit(self, session: Session) -> list[Header]:
        """The rate-limit headers of a successful stream."""
        remaining = _LIMIT - 1 - self._answered[session.user_id] % _LIMIT
        self._answered[session.user_id] += 1
        return [
            ("ratelimit", f"limit={_LIMIT}, remaining={remaining}, reset={_WINDOW_SECONDS}"),
            ("ratelimit-remaining", str(remaining)),
            ("x-request-id", secrets.token_hex(16)),
        ]


def _trim(table: dict[str, Any], bound: int) -> None:
    while len(table) > bound:
        del table[next(iter(table))]
