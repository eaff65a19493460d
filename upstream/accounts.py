"""The pool of accounts: a pure choice among them, and what each has been told by upstream.

Nothing here waits or writes; `on_change` tells the owner that there is something to save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from upstream.credentials import Credentials
from upstream.protocol import cookies
from upstream.protocol.cookies import CookieError, Session
from upstream.protocol.errors import AllResting, NoAccount, PromptDoubted, Reason, UpstreamError

#: How long an account rests after a 429 that names no time, in seconds.
DEFAULT_REST_SECONDS: Final = 60.0
#: How long it rests at most, in seconds, whatever it was told: by the site, or by a file that an older version wrote.
MAX_REST_SECONDS: Final = 86_400.0
#: How long before its end a session that cannot be renewed is worth a warning, in seconds.
EXPIRY_WARNING_SECONDS: Final = 86_400.0
#: Cookies that the site has replaced, of which it is remembered that they are dead: a year of one account's.
MAX_REPLACED: Final = 10_000
#: A clock that differs by so many seconds from what it would show if it had not been set was set.
CLOCK_SET_SECONDS: Final = 1.0
#: The key of `Account.resting` for a rest from every modality.
EVERYTHING: Final = "everything"
#: What keeps an account from chatting although its cookie is good.
BARS: Final = (Reason.GUEST, Reason.TERMS)


@dataclass(frozen=True, slots=True)
class Account:
    """One LMArena account.

    `resting` maps a modality, or EVERYTHING, to the unix time until which it is not asked. `bar` is one of BARS where
    the site does not let it chat at all, though its cookie is good.
    """

    label: str
    session: Session
    expired: bool = False
    resting: Mapping[str, float] = field(default_factory=dict)
    bar: Reason | None = None

    @property
    def user_id(self) -> str:
        """What upstream knows the account by; the pool's key."""
        return self.session.user_id

    def rests(self, modality: str, now: float) -> float:
        """Seconds until the account may be asked for this modality again; 0 when it may now."""
        return max(0.0, self.resting.get(modality, 0.0) - now, self.resting.get(EVERYTHING, 0.0) - now)

    @property
    def able(self) -> bool:
        """Whether the account could chat if it did not rest."""
        return not self.expired and self.bar is None

    def to_json(self) -> dict[str, object]:
        """Plain values for the state file: the cookie among them, for there is no other place for it."""
        return {
            "label": self.label,
            "cookie": self.session.value,
            "expired": self.expired,
            "resting": dict(self.resting),
            "bar": self.bar,
        }

    @classmethod
    def from_json(cls, value: object) -> Account:
        """Read what `to_json` wrote, `bar` may be missing. Raises ValueError with what is wrong."""
        match value:
            case {
                "label": str(label),
                "cookie": str(cookie),
                "expired": bool(expired),
                "resting": dict(resting),
                **rest,
            }:
                try:
                    session = cookies.decode(cookie)
                except CookieError as error:
                    raise ValueError(f"the cookie of {label!r}: {error}") from error
                bar = next((each for each in BARS if each == rest.get("bar")), None)
                return cls(label, session, expired, {str(kind): float(until) for kind, until in resting.items()}, bar)
        raise ValueError("an account needs label, cookie, expired and resting")


class AccountPool:
    """Chooses accounts in turn and remembers what became of them.

    `clock` gives unix time in seconds. It may be set while the pool lives: rests then keep their length by `monotonic`;
    without that, `clock` is one that nobody sets.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic or clock
        self._offset = clock() - self._monotonic()  # of the two clocks, as the rests' ends were reckoned
        self._on_change = on_change
        self._replaced: dict[bytes, None] = {}  # digests, the oldest first
        self._accounts: dict[str, Account] = {}
        self._held: dict[str, int] = {}
        self._turn = 0

    def __iter__(self) -> Iterator[Account]:
        self._now()
        return iter(tuple(self._accounts.values()))

    def __len__(self) -> int:
        return len(self._accounts)

    def load(self, accounts: Iterable[Account], *, saved_at: float | None = None) -> None:
        """Take over what stands in the state file. No rest lasts longer than `MAX_REST_SECONDS` from now.

        `saved_at` is the unix time at which it was written, by the clock of that moment: where the clock was set back
        since, no rest becomes longer than it was then.
        """
        now = self._now()
        ahead = 0.0 if saved_at is None else saved_at - now
        if ahead > CLOCK_SET_SECONDS:
            accounts = (_shifted(account, -ahead) for account in accounts)
        latest = now + MAX_REST_SECONDS
        self._accounts = {account.user_id: _rested_by(account, latest) for account in accounts}

    def _now(self) -> float:
        """Unix time, by which the ends of all rests are put right first if the clock was set since the last time."""
        now = self._clock()
        offset = now - self._monotonic()
        if abs(by := offset - self._offset) > CLOCK_SET_SECONDS:
            self._offset = offset
            shifted = {user_id: _shifted(account, by) for user_id, account in self._accounts.items()}
            if shifted != self._accounts:
                self._accounts = shifted
                self._on_change()
        return now

    @property
    def replaced(self) -> Set[bytes]:
        """Digests of session cookies that the site has replaced: they are dead."""
        return frozenset(self._replaced)

    def get(self, user_id: str) -> Account | None:
        """The account as it is now, or None when it was removed."""
        self._now()
        return self._accounts.get(user_id)

    @property
    def held(self) -> int:
        """Calls that hold an account at the moment."""
        return sum(self._held.values())

    def usable(self, modality: str) -> list[Account]:
        """Accounts that may be asked now."""
        now = self._now()
        return [a for a in self._accounts.values() if a.able and not a.rests(modality, now)]

    def choose(self, modality: str, *, avoid: Set[str] = frozenset(), unready: Set[str] = frozenset()) -> Account:
        """Take the next usable account in turn, one outside `avoid` where there is one, and ready where there is one.

        Both hold user ids.

        Raises NoAccount when none is able to chat, AllResting or PromptDoubted (with the seconds until the first may be
        asked again) when all that are left rest.
        """
        usable = self.usable(modality)
        if not usable:
            raise self._why_none(modality)
        candidates = [a for a in usable if a.user_id not in avoid] or usable
        candidates = [a for a in candidates if a.user_id not in unready] or candidates
        self._turn += 1
        return candidates[self._turn % len(candidates)]

    def _why_none(self, modality: str) -> UpstreamError:
        now = self._now()
        able = [a for a in self._accounts.values() if a.able]
        if able:
            wait = min(a.rests(modality, now) for a in able)
            if all(a.resting.get(EVERYTHING, 0.0) > now for a in able):
                message = "Every account rests, since LMArena doubts that a human uses it."
                return PromptDoubted(message, retry_after=wait, status=None)
            return AllResting("Every account rests until LMArena's limit is over.", retry_after=wait, status=None)
        bars = {a.bar for a in self._accounts.values() if not a.expired}
        if Reason.TERMS in bars:
            return NoAccount("LMArena's terms of use have not been accepted by the account.", reason=Reason.TERMS)
        if Reason.GUEST in bars:
            return NoAccount("The account is a guest's, who may not choose a model.", reason=Reason.GUEST)
        if self._accounts:
            return NoAccount("Every account's session cookie has expired.")
        return NoAccount("No LMArena account has been added.")

    def hold(self, account: Account) -> None:
        """Count a call as the account's, until it is released."""
        user_id = account.user_id
        self._held[user_id] = self._held.get(user_id, 0) + 1

    def release(self, account: Account) -> None:
        """A call of the account's is over."""
        user_id = account.user_id
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]

    def expire(self, account: Account) -> None:
        """Upstream answered 401. A cookie that was rotated or renewed since the call was sent is not blamed for it."""
        current = self._accounts.get(account.user_id)
        if current is not None and current.session.value == account.session.value and not current.expired:
            self._put(replace(current, expired=True))

    def revive(self, account: Account) -> None:
        """Upstream took the cookie: the account is alive, unless it has another cookie by now."""
        current = self._accounts.get(account.user_id)
        if current is not None and current.session.value == account.session.value and current.expired:
            self._put(replace(current, expired=False))

    def set_bar(self, user_id: str, bar: Reason | None) -> None:
        """The site has shown what keeps the account from chatting, or that nothing does."""
        current = self._accounts.get(user_id)
        if current is not None and current.bar is not bar:
            self._put(replace(current, bar=bar))

    def rest(self, account: Account, modality: str, retry_after: float | None) -> None:
        """Upstream answered 429: ask no more before its time is over, for this modality or EVERYTHING. 0 is no rest."""
        seconds = DEFAULT_REST_SECONDS if retry_after is None else min(retry_after, MAX_REST_SECONDS)
        now, current = self._now(), self._accounts.get(account.user_id)
        if current is not None and seconds > 0:
            until = max(now + seconds, current.resting.get(modality, 0.0))
            self._put(replace(current, resting={**current.resting, modality: until}))

    def credentials(self, account: Account, on_rotated: Callable[[], None] = lambda: None) -> Credentials:
        """What calls with the account's present cookie show; the cookies that they bring become the account's, in turn.

        `on_rotated` is called after each. An account that has been given another cookie meanwhile keeps that: it may
        be another login's.
        """
        shown = account.session.value

        def rotated(value: str) -> None:
            nonlocal shown
            before, shown = shown, value
            self._replace(account.user_id, before, value)
            on_rotated()

        return Credentials(shown, rotated)

    def _replace(self, user_id: str, before: str, value: str) -> None:
        """The site has put one session cookie in another one's place, which is dead from now on."""
        self._replaced.pop(digest(value), None)
        self._replaced[digest(before)] = None
        if len(self._replaced) > MAX_REPLACED:
            del self._replaced[next(iter(self._replaced))]
        current = self._accounts.get(user_id)
        if current is not None and current.session.value == before:
            self._put(replace(current, session=cookies.decode(value), expired=False))

    def _put(self, account: Account) -> None:
        self._accounts[account.user_id] = account
        self._on_change()


def _rested_by(account: Account, latest: float) -> Account:
    if all(until <= latest for until in account.resting.values()):
        return account
    return replace(account, resting={kind: min(latest, until) for kind, until in account.resting.items()})


def digest(session_value: str) -> bytes:
    """What tells one session cookie from another without being a secret."""
    return sha256(session_value.encode()).digest()


def _shifted(account: Account, seconds: float) -> Account:
    if not account.resting:
        return account
    return replace(account, resting={kind: until + seconds for kind, until in account.resting.items()})
