"""Creates state folders as the bridge leaves them after light or heavy use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from bench import site
from bench.requests import KEY
from bridge.access import passwords
from bridge.access.keys import ApiKey
from bridge.answering.conversations import CAPACITY, Evaluation
from bridge.state.admin import Admin, admin_document
from bridge.state.conversations import SavedConversations, conversations_document
from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document, keys_document, models_document
from bridge.statistics.counts import NAMES, Outcome
from bridge.statistics.file import stats_document
from bridge.statistics.spans import TABLE_DAYS
from bridge.statistics.stats import Stats
from upstream.accounts import Account
from upstream.arena.accounts import Accounts
from upstream.protocol import cookies, flight
from upstream.protocol.errors import Reason
from upstream.protocol.models import merged

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_WEEK: Final = 7 * _DAY
_DAYS: Final = 730


@dataclass(frozen=True, slots=True)
class StoredState:
    """The content of a state folder: API keys, models, conversations, and whether there are two years of statistics.

    `password` is the dashboard's. There is always a key and an account, which every request needs.
    """

    keys: int = 1
    models: bool = False
    conversations: int = 0
    statistics: bool = False
    password: str = ""

    async def write(self, state: StateFolder) -> None:
        """Write the state folder, as a clean stop does."""
        state.prepare()
        await keys_document(state).save(tuple(_keys(self.keys)))
        now = time.time()
        session = cookies.decode(
            Accounts().sign_in("bench@example.org", expires_at=int(now) + _WEEK, now=now).cookie_value
        )
        await accounts_document(state).save((Account("bench", session),))
        if self.password:
            await admin_document(state).save(Admin(password_hash=passwords.hash_password(self.password)))
        if self.models:
            await models_document(state).save(merged(None, flight.Page.parse(site.page().decode()).models()).models)
        if self.conversations:
            evaluations = tuple(_evaluations(self.conversations, session.user_id))
            await conversations_document(state).save(SavedConversations(clean=True, evaluations=evaluations))
        if self.statistics:
            await stats_document(state, time.time).save(_two_years(now))


#: A bridge in ordinary use, and one in which every table is full.
USED: Final = StoredState(keys=100, models=True, conversations=1000, statistics=True)
FULL: Final = StoredState(keys=10_000, models=True, conversations=CAPACITY, statistics=True)


def _keys(number: int) -> Iterator[ApiKey]:
    yield _key(0, KEY)
    for at in range(1, number):
        yield _key(at, f"{KEY[:-6]}{at:06d}")


def _key(at: int, secret: str) -> ApiKey:
    digest = sha256(secret.encode()).hexdigest()
    return ApiKey(f"{at:08x}", f"bench {at}", digest, secret[-4:], rpm=1_000_000, concurrency=100_000)


def _evaluations(number: int, user_id: str) -> Iterator[Evaluation]:
    for at in range(number):
        asked, *answered = (sha256(b"%d %d" % (at, part)).hexdigest()[:32] for part in range(3))
        yield Evaluation(f"{site.MODEL_ID[:24]}{at:012x}", user_id, site.MODEL_ID, asked, tuple(answered))


def _two_years(now: float) -> Stats:
    """Statistics with a row in every period, and with full tables."""
    clock = now - _DAYS * _DAY
    stats = Stats(lambda: clock)
    times = {now - ago * _DAY for ago in range(_DAYS)}
    times |= {now - ago * _HOUR for ago in range(336)}
    times |= {now - ago * _MINUTE for ago in range(120)}
    for clock in sorted(times):
        days_ago = (now - clock) / _DAY
        for at in range(NAMES if days_ago < TABLE_DAYS and days_ago.is_integer() else 1):
            stats.record(
                Outcome(200, Reason.OK, 12.3, f"model-of-an-ordinary-name-{at}", f"bench {at}", 0.7, 400, 1000, 500)
            )
    return stats
