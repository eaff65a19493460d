"""What is wrong is said by its part and the word of diagnosis; the log hears of it once, and once of its end."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import pytest

from bridge.health import Health, Trouble, Watch, examine
from upstream import cookies
from upstream.accounts import Account, AccountPool
from upstream.arena import Arena
from upstream.catalog import Catalog
from upstream.errors import Challenge, Reason, ServerFailed, SessionExpired, Unreachable, UpstreamError

SESSION = cookies.decode(Arena().sign_in().cookie_value)
ACCOUNT = Account("ada", SESSION)
OTHER = Account("grace", cookies.decode(Arena().sign_in("grace@example.org").cookie_value))
#: A week before the cookie's end.
NOW = SESSION.expires_at - 7 * 86_400.0

WALL = Challenge("LMArena shows a challenge page.")
OUTAGE = ServerFailed("LMArena failed.")
UNREACHABLE = Unreachable("LMArena cannot be reached.")


@dataclass(frozen=True)
class Row:
    """A daemon, whether it serves, and what is said of it: part, reason, and words of the message."""

    name: str
    serving: bool
    troubles: tuple[tuple[str, Reason, str], ...] = ()
    accounts: tuple[Account, ...] = (ACCOUNT,)
    catalog: Catalog | None = field(default_factory=lambda: Catalog(()))
    models_failure: UpstreamError | None = None
    wall: UpstreamError | None = None
    outage: UpstreamError | None = None
    now: float = NOW


EXPIRED = replace(ACCOUNT, expired=True)
RESTING = replace(ACCOUNT, resting={"chat": NOW + 30})
ROWS = (
    Row("all is well", True),
    Row("no account", False, (("accounts", Reason.NO_ACCOUNT, "accounts add"),), accounts=()),
    Row("expired", False, (("account ada", Reason.EXPIRED, "has expired: renew"),), accounts=(EXPIRED,)),
    Row("one of two expired", True, (("account ada", Reason.EXPIRED, "has expired"),), accounts=(EXPIRED, OTHER)),
    Row("about to expire", True, (("account ada", Reason.EXPIRED, "expires in 12 h"),), now=NOW + 6.5 * 86_400),
    Row("a full day is time enough", True, now=NOW + 6 * 86_400),
    Row(
        "past its time, which only a 401 proves", True, (("account ada", Reason.EXPIRED, "past"),), now=NOW + 8 * 86_400
    ),
    Row("resting", False, (("account ada", Reason.RATE_LIMITED, "Rests for 30 s from chat"),), accounts=(RESTING,)),
    Row("rested", True, accounts=(RESTING,), now=NOW + 31),
    Row(
        "resting from pictures",
        True,
        (("account ada", Reason.RATE_LIMITED, "from image"),),
        accounts=(replace(ACCOUNT, resting={"image": NOW + 30}),),
    ),
    Row("no models yet", False, (("models", Reason.UNREACHABLE, "first reading is under way"),), catalog=None),
    Row(
        "no models",
        False,
        (("models", Reason.EXPIRED, "No list of models yet. No more."),),
        catalog=None,
        models_failure=SessionExpired("No more."),
    ),
    Row("old models", True, (("models", Reason.UNREACHABLE, "not fresh"),), models_failure=UNREACHABLE),
    Row("a wall", False, (("site", Reason.CHALLENGE, "challenge page"),), wall=WALL),
    Row("an outage", True, (("site", Reason.UPSTREAM_ERROR, "failed"),), outage=OUTAGE),
    Row(
        "all at once",
        False,
        (
            ("account ada", Reason.EXPIRED, ""),
            ("models", Reason.UNREACHABLE, ""),
            ("site", Reason.CHALLENGE, ""),
            ("site", Reason.UPSTREAM_ERROR, ""),
        ),
        accounts=(EXPIRED,),
        models_failure=UNREACHABLE,
        wall=WALL,
        outage=OUTAGE,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_health(row: Row) -> None:
    pool = AccountPool(lambda: row.now, lambda: None)
    pool.load(row.accounts)
    health = examine(
        pool, row.catalog, models_failure=row.models_failure, wall=row.wall, outage=row.outage, now=row.now
    )
    assert health.serving == row.serving
    assert [(trouble.where, trouble.reason) for trouble in health.troubles] == [row[:2] for row in row.troubles]
    for trouble, (_, _, words) in zip(health.troubles, row.troubles, strict=True):
        assert words in trouble.message
        assert SESSION.value not in trouble.message


def test_a_trouble_as_json() -> None:
    trouble = Trouble("models", Reason.UNREACHABLE, "No list.")
    assert trouble.to_json() == {"part": "models", "reason": "unreachable", "message": "No list."}


# --- the log ---

MODELS = Trouble("models", Reason.UNREACHABLE, "No list.")
SITE = Trouble("site", Reason.CHALLENGE, "A challenge.")
SITE_AGAIN = SITE._replace(message="A challenge, 5 s later.")


async def test_the_log_hears_of_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looks: tuple[tuple[tuple[Trouble, ...], list[tuple[str, str]]], ...] = (
        ((), []),
        ((SITE,), [("WARNING", "site: A challenge.")]),
        ((SITE_AGAIN,), []),
        ((SITE_AGAIN, MODELS), [("WARNING", "models: No list.")]),
        ((MODELS,), [("INFO", "site: well again")]),
        ((SITE,), [("WARNING", "site: A challenge."), ("INFO", "models: well again")]),
        ((), [("INFO", "site: well again")]),
        ((), []),
    )
    states = iter([Health(not troubles, troubles) for troubles, _ in looks])
    watch = Watch(lambda: next(states))
    for _, logged in looks:
        caplog.clear()
        await watch()
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == logged
