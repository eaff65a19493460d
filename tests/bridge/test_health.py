"""Each trouble is reported with its part and reason; the log reports its beginning and its end once each."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from bridge.accounts.status import FailedRenewal
from bridge.health import Health, Trouble, TroubleLog, examine
from upstream.accounts import EVERYTHING, Account, AccountPool
from upstream.arena import Arena
from upstream.protocol import cookies
from upstream.protocol.catalog import Catalog
from upstream.protocol.errors import Challenge, Reason, ServerFailed, SessionExpired, Unreachable, UpstreamError

SESSION = cookies.decode(Arena().sign_in().cookie_value)
ACCOUNT = Account("ada", SESSION)
OTHER = Account("grace", cookies.decode(Arena().sign_in("grace@example.org").cookie_value))
#: Half an hour before the token's end, rounded to the second.
NOW = SESSION.expires_at - 1800.0
#: An account with a session of 2025, which lasts a week and cannot be renewed.
ENDING = Account("old", cookies.decode(Arena().sign_in(expires_in=7 * 86_400, renewable=False).cookie_value))
END = ENDING.session.expires_at

WALL = Challenge("LMArena shows a challenge page.")
OUTAGE = ServerFailed("LMArena failed.")
UNREACHABLE = Unreachable("LMArena cannot be reached.")
BEHIND = "This machine's clock is 180 s behind LMArena's: set the clock by NTP; meanwhile the bridge corrects its ids."
AHEAD = "This machine's clock is 180 s ahead of LMArena's: set the clock by NTP; meanwhile the bridge corrects its ids."


def utc(moment: float, form: str) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime(form)


@dataclass(frozen=True)
class Row:
    """A daemon, whether it serves, and its troubles: the part, the reason, and words of the message."""

    name: str
    serving: bool
    troubles: tuple[tuple[str, Reason, str], ...] = ()
    accounts: tuple[Account, ...] = (ACCOUNT,)
    failing: FailedRenewal | None = None
    catalog: Catalog | None = field(default_factory=lambda: Catalog(()))
    models_failure: UpstreamError | None = None
    wall: UpstreamError | None = None
    outage: UpstreamError | None = None
    now: float = NOW
    skew: float = 0.0


EXPIRED = replace(ACCOUNT, expired=True)
RESTING = replace(ACCOUNT, cooldowns={"chat": NOW + 29.2})
DOUBTED = replace(ACCOUNT, cooldowns={EVERYTHING: NOW + 1200})
GUEST = replace(ACCOUNT, bar=Reason.GUEST)
ONCE, TWICE = FailedRenewal(NOW - 180, OUTAGE, 1), FailedRenewal(NOW - 180, OUTAGE, 2)
SINCE = utc(NOW - 180, "%H:%M UTC")
FAILS = f"Renewal of its login has failed since {SINCE} (3 min): LMArena failed; the bridge keeps retrying."
ROWS = (
    Row("all is well", True),
    Row("no account", False, (("accounts", Reason.NO_ACCOUNT, "accounts add"),), accounts=()),
    Row(
        "expired",
        False,
        (("account ada", Reason.EXPIRED, "The site no longer accepts its login: log in again, and paste"),),
        accounts=(EXPIRED,),
    ),
    Row("one of two expired", True, (("account ada", Reason.EXPIRED, "no longer"),), accounts=(EXPIRED, OTHER)),
    Row("a token near its end is no news", True, now=SESSION.expires_at - 1),
    Row("nor one that has ended, while nothing failed", True, now=SESSION.expires_at + 60),
    Row("a renewal that failed once", True, failing=ONCE),
    Row("a renewal that failed twice", True, (("account ada", Reason.UPSTREAM_ERROR, FAILS),), failing=TWICE),
    Row(
        "a renewal that failed once, of a token that has ended",
        True,
        (("account ada", Reason.UNREACHABLE, "(35 min): LMArena cannot be reached; the bridge keeps retrying"),),
        failing=FailedRenewal(NOW, UNREACHABLE, 1),
        now=NOW + 2100,
    ),
    Row(
        "a renewal that has failed for hours",
        True,
        (("account ada", Reason.CHALLENGE, "(5 h): LMArena shows a challenge page; the bridge"),),
        failing=FailedRenewal(NOW - 18_000, WALL, 9),
    ),
    Row("expired says all, its renewal fails too", False, (("account ada", Reason.EXPIRED, ""),), (EXPIRED,), TWICE),
    Row(
        "a guest's",
        False,
        (
            (
                "account ada",
                Reason.GUEST,
                "guests may not choose a model: sign in to the site in the browser that the cookie came from",
            ),
        ),
        accounts=(GUEST,),
    ),
    Row(
        "a guest's whose renewal fails",
        True,
        (("account ada", Reason.GUEST, ""), ("account ada", Reason.UPSTREAM_ERROR, FAILS)),
        accounts=(GUEST, OTHER),
        failing=TWICE,
    ),
    Row(
        "without consent",
        False,
        (("account ada", Reason.TERMS, "account has not accepted the site's terms of use: open the site"),),
        accounts=(replace(ACCOUNT, bar=Reason.TERMS),),
    ),
    Row(
        "about to end for good",
        True,
        (
            (
                "account old",
                Reason.EXPIRED,
                f"The session ends for good at {utc(END, '%Y-%m-%d %H:%M UTC')}: before then, log in again, and paste",
            ),
        ),
        accounts=(ENDING,),
        now=END - 43_200,
    ),
    Row("a full day is time enough", True, accounts=(ENDING,), now=END - 86_400),
    Row("a session that nothing renews has no renewal that fails", True, accounts=(ENDING,), failing=TWICE),
    Row(
        "past its end, which only a 401 proves",
        True,
        (("account old", Reason.EXPIRED, "and cannot be renewed: log in again, and paste"),),
        accounts=(ENDING,),
        now=END + 1,
    ),
    Row(
        "past its end by the site's clock",
        True,
        (("account old", Reason.EXPIRED, "and cannot be renewed"), ("clock", Reason.REJECTED, BEHIND)),
        accounts=(ENDING,),
        now=END - 60,
        skew=180,
    ),
    Row(
        "resting",
        False,
        (("account ada", Reason.RATE_LIMITED, "On cooldown for chat for 30 s after a 429."),),
        (RESTING,),
    ),
    Row(
        "the last moment of a cooldown",
        False,
        (("account ada", Reason.RATE_LIMITED, "On cooldown for chat for 1 s"),),
        (RESTING,),
        now=NOW + 29.1,
    ),
    Row("rested", True, accounts=(RESTING,), now=NOW + 29.2),
    Row(
        "on cooldown for pictures",
        True,
        (("account ada", Reason.RATE_LIMITED, "for image"),),
        accounts=(replace(ACCOUNT, cooldowns={"image": NOW + 30}),),
    ),
    Row(
        "doubted",
        False,
        (
            (
                "account ada",
                Reason.RECAPTCHA,
                "doubts that a human uses this account: it is not used for 1200 s. Its own page shows the same flag.",
            ),
        ),
        accounts=(DOUBTED,),
    ),
    Row(
        "doubted, and on cooldown for pictures for a shorter time",
        False,
        (
            ("account ada", Reason.RATE_LIMITED, "On cooldown for image for 30 s after a 429."),
            ("account ada", Reason.RECAPTCHA, "it is not used for 1200 s"),
        ),
        accounts=(replace(ACCOUNT, cooldowns={"image": NOW + 30, EVERYTHING: NOW + 1200}),),
    ),
    Row("a clock that is behind", True, (("clock", Reason.REJECTED, BEHIND),), skew=180.0),
    Row("a clock that is ahead", True, (("clock", Reason.REJECTED, AHEAD),), skew=-180.4),
    Row("no models yet", False, (("models", Reason.UNREACHABLE, "first reading is under way"),), catalog=None),
    Row(
        "no models",
        False,
        (("models", Reason.EXPIRED, "No list of models yet. No more."),),
        catalog=None,
        models_failure=SessionExpired("No more."),
    ),
    Row("old models", True, (("models", Reason.UNREACHABLE, "out of date"),), models_failure=UNREACHABLE),
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
            ("clock", Reason.REJECTED, ""),
        ),
        accounts=(EXPIRED,),
        models_failure=UNREACHABLE,
        wall=WALL,
        outage=OUTAGE,
        skew=180,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_trouble_is_reported_with_its_part_and_reason_without_a_secret(row: Row) -> None:
    pool = AccountPool(lambda: row.now, lambda: None)
    pool.load(row.accounts)
    health = examine(
        pool,
        row.catalog,
        failing={row.accounts[0].user_id: row.failing}.get if row.accounts else lambda _: None,
        models_failure=row.models_failure,
        wall=row.wall,
        outage=row.outage,
        now=row.now,
        skew=row.skew,
    )
    assert health.serving == row.serving
    assert [(trouble.where, trouble.reason) for trouble in health.troubles] == [row[:2] for row in row.troubles]
    for trouble, (_, _, words) in zip(health.troubles, row.troubles, strict=True):
        assert words in trouble.message
        assert SESSION.value not in trouble.message


def test_a_trouble_is_written_as_json() -> None:
    trouble = Trouble("models", Reason.UNREACHABLE, "No list.")
    assert trouble.to_json() == {"part": "models", "reason": "unreachable", "message": "No list."}


# --- the log ---

MODELS = Trouble("models", Reason.UNREACHABLE, "No list.")
SITE = Trouble("site", Reason.CHALLENGE, "A challenge.")
SITE_AGAIN = SITE._replace(what="A challenge, 5 s later.")


async def test_the_beginning_and_end_of_each_trouble_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looks: tuple[tuple[tuple[Trouble, ...], list[tuple[str, str]]], ...] = (
        ((), []),
        ((SITE,), [("WARNING", "site: A challenge.")]),
        ((SITE_AGAIN,), []),
        ((SITE_AGAIN, MODELS), [("WARNING", "models: No list.")]),
        ((MODELS,), [("INFO", "site: recovered")]),
        ((SITE,), [("WARNING", "site: A challenge."), ("INFO", "models: recovered")]),
        ((), [("INFO", "site: recovered")]),
        ((), []),
    )
    states = iter([Health(not troubles, troubles) for troubles, _ in looks])
    log_troubles = TroubleLog(lambda: next(states))
    for _, logged in looks:
        caplog.clear()
        await log_troubles()
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == logged
