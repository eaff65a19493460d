"""One account as the Accounts page shows it: its status, its answers per hour, and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from bridge.accounts.enrolment import owner_of
from bridge.accounts.renewals import LOGIN
from bridge.accounts.status import AccountStatus, Condition, FailedRenewal, judge
from bridge.activity.moments import displayable
from bridge.statistics.account_use import AccountUse, HourOfAnswers
from handlers.dashboard.wording import duration, number, percent
from upstream.accounts import Account, Cooldown, ReportedLimit

#: The maximum of the bar that shows the days left.
BAR_DAYS: Final = 7
#: The drawing of the strip: the width of an hour, the gap between hours, and the height.
HOUR_WIDTH: Final = 20
_GAP: Final = 3
STRIP_HEIGHT: Final = 28
_LEAST: Final = 4
_DAY: Final = 86_400.0
#: The conditions that only a person on the site can resolve.
_TO_LOG_IN: Final = (Condition.EXPIRED, Condition.GUEST, Condition.TERMS, Condition.ENDED, Condition.ENDING)
_CALLS: Final[Mapping[str, str]] = {LOGIN: "tests and renewals", "chat": "chats", "image": "pictures"}


class Piece(NamedTuple):
    """A piece of an hour's column, in units of the drawing."""

    kind: str
    x: int
    y: int
    height: int


class Strip(NamedTuple):
    """The last 24 hours: pieces to draw, the beginning of each hour's column, and the same in words.

    `trouble` is the unix time of the last hour in which not all was answered; None without such an hour.
    """

    pieces: Sequence[Piece]
    hours: Sequence[int]
    words: str
    trouble: int | None
    width: int


class SeenLimit(NamedTuple):
    """A limit that the site reported, in words, and when, in unix time."""

    words: str
    at: float


class Meter(NamedTuple):
    """The requests of one kind that an account has left, and their limit."""

    words: str
    left: int
    limit: int


class AccountCard(NamedTuple):
    """One account as the page shows it. Times are unix times; `cooldowns` are pairs of modality and end.

    `share` is its share of all attempts of the last 24 hours, None without any. `days` are the days left of a login
    that cannot be renewed, None for other logins. `meters` have the requests left now.
    """

    label: str
    owner: str
    user_id: str
    expires_at: float
    renewable: bool
    status: AccountStatus
    cooldowns: tuple[tuple[str, float], ...]
    use: AccountUse | None
    paused: bool
    strip: Strip
    share: str | None
    last_cooldown: Cooldown | None
    limits: Sequence[SeenLimit]
    meters: Sequence[Meter]
    days: float | None

    @property
    def must_log_in(self) -> bool:
        """Whether a person must log in to the site."""
        return self.status.condition in _TO_LOG_IN


def card_of(
    account: Account,
    use: AccountUse | None,
    everyone: int,
    limits: Mapping[str, ReportedLimit],
    *,
    now: float,
    site_now: float,
    failing: FailedRenewal | None,
) -> AccountCard:
    """Make the card. `everyone` is the number of attempts with all accounts in the last 24 hours."""
    session = account.session
    hours = (use or AccountUse()).last_hours(int(now))
    own = sum(counts.total for _, counts in hours)
    return AccountCard(
        account.label,
        owner_of(account),
        account.user_id,
        displayable(session.expires_at),
        session.renewable,
        judge(account, now, site_now, failing),
        tuple((kind, until) for kind, until in account.cooldowns.items() if until > now),
        use,
        account.paused,
        _strip(hours),
        percent(own, everyone) if everyone else None,
        _shown(account.last_cooldown),
        [*limits_of(limits)],
        [*_meters(limits, now)],
        None if session.renewable else min(max((session.expires_at - site_now) / _DAY, 0.0), BAR_DAYS),
    )


def attempts_of(use: AccountUse, now: float) -> int:
    """The attempts with an account in the last 24 hours."""
    return sum(counts.total for _, counts in use.last_hours(int(now)))


def _strip(hours: Sequence[tuple[int, HourOfAnswers]]) -> Strip:
    most = max((counts.total for _, counts in hours), default=0)
    pieces = [
        piece for index, (_, counts) in enumerate(hours) for piece in _pieces(index * (HOUR_WIDTH + _GAP), counts, most)
    ]
    total = HourOfAnswers()
    for _, counts in hours:
        total = total.plus(counts)
    words = f"{number(total.ok)} answered, {number(total.limited)} limited by the site, {number(total.failed)} failed"
    bad = [at for at, counts in hours if counts.limited or counts.failed]
    starts = [index * (HOUR_WIDTH + _GAP) for index in range(len(hours))]
    width = len(hours) * (HOUR_WIDTH + _GAP) - _GAP
    return Strip(pieces, starts, words if total.total else "no attempts", bad[-1] if bad else None, width)


def _pieces(x: int, counts: HourOfAnswers, most: int) -> Iterator[Piece]:
    """An hour's column, from the bottom. Its height depends on the attempts, and every kind is visible."""
    if not counts.total:
        return
    whole = max(3 * _LEAST, round(STRIP_HEIGHT * counts.total / most))
    shares = {"failed": counts.failed, "limited": counts.limited}
    heights = {kind: max(_LEAST, round(whole * count / counts.total)) for kind, count in shares.items() if count}
    if counts.ok:
        heights["ok"] = max(_LEAST, whole - sum(heights.values()))
    top = STRIP_HEIGHT
    for kind in ("ok", "limited", "failed"):
        if kind in heights:
            height = min(heights[kind], top)
            top -= height
            yield Piece(kind, x, top, height)


def _shown(last: Cooldown | None) -> Cooldown | None:
    """A cooldown whose time can be displayed, even if the file has an extreme value."""
    return last and last._replace(at=displayable(last.at))


def limits_of(seen: Mapping[str, ReportedLimit]) -> Iterator[SeenLimit]:
    """Describe the limits that the site reported for an account, by kind of call."""
    for kind, said in seen.items():
        limit = said.limit
        text = f"{_CALLS.get(kind, kind)}: {number(limit.limit)}"
        if limit.window:
            text += f" in {duration(limit.window)}"
        if limit.remaining is not None:
            text += f", {number(limit.remaining)} left"
            text += f" for the next {duration(limit.reset)}" if limit.reset else ""
        yield SeenLimit(text, said.at)


def _meters(seen: Mapping[str, ReportedLimit], now: float) -> Iterator[Meter]:
    for kind, (limit, at) in seen.items():
        left = limit.left(now - at)
        if left is not None and kind != LOGIN:
            words = f"{number(left)} of {number(limit.limit)} {_CALLS.get(kind, kind)} left"
            yield Meter(words, min(left, limit.limit), limit.limit)
