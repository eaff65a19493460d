"""What there is on the site: accounts, evaluations, models, a deployment, a storage, and the trouble armed for them."""

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
from upstream.arena.faults import STREAM_KINDS, Faults, rotate
from upstream.arena.models import Model, catalogue, replaced_ids
from upstream.arena.replies import Header, Issue, RefusedError
from upstream.arena.steps import Step
from upstream.arena.storage import Storage
from upstream.arena.traits import Era, Traits

Script: TypeAlias = Callable[[Turn], AsyncIterator[Step] | Iterable[Step]]

# Bounds for an arena that runs for weeks; the oldest go first.
_CALLS: Final = 10_000
_EVALUATIONS: Final = 10_000
_IDS: Final = 200_000

_LIMIT, _WINDOW_SECONDS = 3000, 300  # as in the captured header `ratelimit-policy: 3000;w=300`
_LOGIN_SECONDS: Final[dict[Era, float]] = {2025: 7 * 86400.0, 2026: 3600.0}  # how long a new access token lives


class World(Traits):
    """LMArena's site and its storage, as far as a test may look at them and change them.

    `clock` tells the time in unix seconds; tests may move it. `clearance`, where set, is the `cf_clearance` that calls
    must show; `script`, where set, answers for every model.
    """

    def __init__(self, *, era: Era = 2026, pace: float = 0.0, models: Sequence[Model] | None = None) -> None:
        super().__init__(era)
        self.origin = ""
        self.pace = pace
        self.clock: Callable[[], float] = time.time
        self.models: tuple[Model, ...] = catalogue() if models is None else tuple(models)
        self.clearance: str | None = None
        self.script: Script | None = None
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
        """The calls that asked for an answer of a model, in the order in which they came."""
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
        """A new login of that address's account, whose access token lives `expires_in` seconds.

        By default that is an hour in 2026, and a week in 2025. `guest`: of a visitor who has not signed in, for whom
        the address is only a name. `consented`: whether the account has accepted the terms of use. `renewable`:
        whether the session has a refresh token; without one it ends for good with its access token.
        """
        now = self.clock()
        seconds = _LOGIN_SECONDS[self.era] if expires_in is None else expires_in
        return self.accounts.sign_in(
            email, expires_at=int(now + seconds), now=now, guest=guest, consented=consented, renewable=renewable
        )

    def expire(self, session: Session) -> None:
        """The session is over: its cookie is refused from now on, and cannot be renewed."""
        self.accounts.expire(session)

    def rotate(self, session: Session, pieces: bool = False) -> None:
        """The next answer to this session sets a new cookie; from then on the old one is dead."""
        rotate(session, pieces=pieces)

    def deploy(self) -> None:
        """Deploy the site again: other script names, other action ids."""
        self.deployment = Deployment(self.deployment.number + 1)

    def model(self, name: str) -> Model:
        """The first model of that public name, or the one of that id; KeyError if there is none."""
        for model in self.models:
            if name in (model.public_name, model.id):
                return model
        raise KeyError(name)

    def replace_model_ids(self) -> None:
        """Give every model a new id, and keep its name. The old ids are unknown from now on."""
        self._generation += 1
        replaced = replaced_ids(self.models, self._generation)
        self.models = tuple(replaced.values())
        for evaluation in self.evaluations.values():
            evaluation.model = replaced.get(evaluation.model.id, evaluation.model)

    def page_entries(self) -> list[dict[str, Any]] | None:
        """The models as they stand on the page; None if it has no list."""
        return [model.page_entry(self.era) for model in self.models] if self.page_models else None

    def now_as_text(self) -> str:
        """The site's time as its JSON has it."""
        return datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def remember(self, evaluation: Evaluation) -> None:
        """Keep a new evaluation."""
        self.evaluations[evaluation.id] = evaluation
        _trim(self.evaluations, _EVALUATIONS)

    def use_ids(self, **ids: str) -> None:
        """An id serves once, in a call that a fault refuses too: every attempt brings ids of its own."""
        if used := [Issue((name,), "already exists") for name, value in ids.items() if value in self._used_ids]:
            raise RefusedError(replies.invalid(used))
        self._used_ids.update(dict.fromkeys(ids.values()))
        _trim(self._used_ids, _IDS)

    def ratelimit(self, session: Session) -> list[Header]:
        """The headers of a good stream that tell how much is left to its account."""
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
