"""The pool of accounts: chooses the account for a call, and records how upstream treated each.

No I/O: `on_change` tells the owner that there is something to save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final, NamedTuple

from upstream.credentials import Credentials
from upstream.protocol import cookies
from upstream.protocol.cookies import CookieError, Session
from upstream.protocol.errors import AllOnCooldown, NoAccount, PromptFailed, Reason, UpstreamError
from upstream.protocol.limits import Limit, read_limit, with_most_left

#: How long an account is not used after a 429 that names no time, in seconds.
DEFAULT_COOLDOWN_SECONDS: Final = 60.0
#: The longest cooldown in seconds, whether it comes from the site or from a file that an older version wrote.
MAX_COOLDOWN_SECONDS: Final = 86_400.0
#: How long before its expiry a session that cannot be renewed is worth a warning, in seconds.
EXPIRY_WARNING_SECONDS: Final = 86_400.0
#: How many replaced, and so invalid, cookies are remembered: those of one account in a year.
MAX_REPLACED: Final = 10_000
#: The wall clock has been set if its distance from the monotonic clock changes by more than this, in seconds.
CLOCK_SET_SECONDS: Final = 1.0
#: The key of `Account.cooldowns` for a cooldown of every modality.
EVERYTHING: Final = "everything"
#: What can bar an account with a valid cookie from chatting.
BARS: Final = (Reason.GUEST, Reason.TERMS)


class Cooldown(NamedTuple):
    """A cooldown of a modality, or of EVERYTHING: when it began (unix time), and how long it was to last."""

    kind: str
    at: float
    seconds: float


class ReportedLimit(NamedTuple):
    """A limit, and when the site reported it (unix time)."""

    limit: Limit
    at: float


@dataclass(frozen=True, slots=True)
class Account:
    """One LMArena account.

    `cooldowns` maps a modality, or EVERYTHING, to the unix time until which the account is not used for it. `bar` is
    one of BARS if the site does not let the account chat at all although its cookie is valid. A `paused` account gets
    no new requests, by its owner's choice, but its login is still renewed.
    """

    label: str
    session: Session
    expired: bool = False
    cooldowns: Mapping[str, float] = field(default_factory=dict)
    bar: Reason | None = None
    paused: bool = False
    last_cooldown: Cooldown | None = field(default=None, compare=False)  # it comes with `cooldowns`, which is compared

    @property
    def user_id(self) -> str:
        """The site's id of the account; the pool's key."""
        return self.session.user_id

    def cooldown_left(self, modality: str, now: float) -> float:
        """Seconds until the account may be used for this modality again; 0 if it may now."""
        if not self.cooldowns:
            return 0.0
        return max(0.0, self.cooldowns.get(modality, 0.0) - now, self.cooldowns.get(EVERYTHING, 0.0) - now)

    @property
    def can_chat(self) -> bool:
        """Whether the account can chat, cooldowns aside."""
        return not self.expired and self.bar is None and not self.paused

    def to_json(self) -> dict[str, object]:
        """Plain values for the state file, including the cookie, which is stored nowhere else."""
        value: dict[str, object] = {
            "label": self.label,
            "cookie": self.session.value,
            "expired": self.expired,
            "resting": dict(self.cooldowns),
            "bar": self.bar,
        }
        if self.paused:
            value["paused"] = True
        if self.last_cooldown is not None:
            value["rested"] = list(self.last_cooldown)
        return value

    @classmethod
    def from_json(cls, value: object) -> Account:
        """Read what `to_json` wrote; `bar` and later fields may be missing. Raises ValueError with the reason."""
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
                ends = {str(kind): float(until) for kind, until in resting.items()}
                paused, last_cooldown = rest.get("paused") is True, _read_cooldown(rest.get("rested"))
                return cls(label, session, expired, ends, bar, paused, last_cooldown)
        raise ValueError("an account needs label, cookie, expired and resting")


class AccountPool:
    """Chooses accounts in turn, and records which of them are expired, on cooldown or barred.

    `clock` gives unix time in seconds. If it is set while the pool exists, cooldowns and limits keep their length by
    `monotonic`; without `monotonic`, `clock` must never be set.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic or clock
        self._offset = clock() - self._monotonic()  # between the clocks, to which cooldowns and limits refer
        self._on_change = on_change
        self._replaced: dict[bytes, None] = {}  # digests, the oldest first
        self._accounts: dict[str, Account] = {}
        self._held: dict[str, int] = {}  # calls by user id
        self._limits: dict[str, dict[str, ReportedLimit]] = {}
        self._failed: set[tuple[str, str]] = set()  # user id and kind of call, if the last attempt failed
        self._turn = 0

    def __iter__(self) -> Iterator[Account]:
        self._now()
        return iter(tuple(self._accounts.values()))

    def __len__(self) -> int:
        return len(self._accounts)

    def load(self, accounts: Iterable[Account], *, saved_at: float | None = None) -> None:
        """Load the accounts from the state file. No cooldown lasts longer than `MAX_COOLDOWN_SECONDS` from now.

        `saved_at` is the unix time at which the file was written, by the clock of that moment: if the clock was set
        back since, cooldowns do not become longer.
        """
        now = self._now()
        ahead = 0.0 if saved_at is None else saved_at - now
        if ahead > CLOCK_SET_SECONDS:
            accounts = (_shifted(account, -ahead) for account in accounts)
        latest = now + MAX_COOLDOWN_SECONDS
        self._accounts = {account.user_id: _shortened(account, latest) for account in accounts}

    def _now(self) -> float:
        """Unix time. If the clock was set since the last call, the times of cooldowns and limits are adjusted first."""
        now = self._clock()
        offset = now - self._monotonic()
        if abs(by := offset - self._offset) > CLOCK_SET_SECONDS:
            self._offset = offset
            for limits in self._limits.values():
                limits.update({kind: seen._replace(at=seen.at + by) for kind, seen in limits.items()})
            shifted = {user_id: _shifted(account, by) for user_id, account in self._accounts.items()}
            if shifted != self._accounts:
                self._accounts = shifted
                self._on_change()
        return now

    @property
    def replaced(self) -> Set[bytes]:
        """Digests of session cookies that the site has replaced, which are no longer valid."""
        return frozenset(self._replaced)

    def get(self, user_id: str) -> Account | None:
        """The account's current state, or None if it was removed."""
        return self._accounts.get(user_id)

    @property
    def held(self) -> int:
        """How many calls hold an account at the moment."""
        return sum(self._held.values())

    def usable(self, modality: str) -> list[Account]:
        """The accounts that may be used now."""
        now = self._now()
        return [a for a in self._accounts.values() if a.can_chat and not a.cooldown_left(modality, now)]

    def choose(self, modality: str, *, avoid: Set[str] = frozenset(), unready: Set[str] = frozenset()) -> Account:
        """Return the usable account with most requests left, if possible outside `avoid` and `unready` (user ids).

        Pending requests count as used. Accounts take turns if they have equally many left, or if that is unknown.

        Raises NoAccount if no account can chat, AllOnCooldown or PromptFailed (with the seconds until the first may be
        used again) if all that can are on cooldown.
        """
        usable = self.usable(modality)
        if not usable:
            raise self._why_none(modality)
        candidates = usable
        for unwanted in (avoid, unready):
            if unwanted:
                candidates = [a for a in candidates if a.user_id not in unwanted] or candidates
        self._turn += 1
        if len(candidates) > 1 and self._limits:
            left = [self._expected_left(a.user_id, modality) for a in candidates]
            candidates = [candidates[index] for index in with_most_left(left)]
        return candidates[self._turn % len(candidates)]

    def _expected_left(self, user_id: str, modality: str) -> int | None:
        """How many more requests the account may take; None if that is unknown, or if the last one failed anyway."""
        if (user_id, modality) in self._failed or (left := self.requests_left(user_id, modality)) is None:
            return None
        return left - self._held.get(user_id, 0)

    def _why_none(self, modality: str) -> UpstreamError:
        now = self._now()
        able = [a for a in self._accounts.values() if a.can_chat]
        if able:
            wait = min(a.cooldown_left(modality, now) for a in able)
            if all(a.cooldowns.get(EVERYTHING, 0.0) > now for a in able):
                message = "All accounts are on cooldown, since LMArena doubts that a human uses them."
                return PromptFailed(message, retry_after=wait, status=None)
            return AllOnCooldown(
                "All accounts are on cooldown until LMArena's rate limit is over.", retry_after=wait, status=None
            )
        if any(replace(a, paused=False).can_chat for a in self._accounts.values()):
            return NoAccount("Every account that could answer is paused in the bridge.")
        bars = {a.bar for a in self._accounts.values() if not a.expired}
        if Reason.TERMS in bars:
            return NoAccount("The account has not accepted LMArena's terms of use.", reason=Reason.TERMS)
        if Reason.GUEST in bars:
            return NoAccount("The account is a guest session, which cannot choose a model.", reason=Reason.GUEST)
        if self._accounts:
            return NoAccount("Every account's session cookie has expired.")
        return NoAccount("No LMArena account has been added.")

    def hold(self, account: Account) -> None:
        """Count a call of the account, until `release`."""
        user_id = account.user_id
        self._held[user_id] = self._held.get(user_id, 0) + 1

    def release(self, account: Account) -> None:
        """End a call of the account."""
        user_id = account.user_id
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]

    def expire(self, account: Account) -> None:
        """Record a 401, unless the cookie was rotated or renewed since the call was sent."""
        self._set_expired(account, expired=True)

    def revive(self, account: Account) -> None:
        """Record that upstream accepted the cookie, unless the account has another one by now."""
        self._set_expired(account, expired=False)

    def _set_expired(self, account: Account, *, expired: bool) -> None:
        current = self._accounts.get(account.user_id)
        if current is not None and current.expired is not expired and current.session.value == account.session.value:
            self._put(replace(current, expired=expired))

    def set_bar(self, user_id: str, bar: Reason | None) -> None:
        """Record what bars the account from chatting, or None if nothing does."""
        current = self._accounts.get(user_id)
        if current is not None and current.bar is not bar:
            self._put(replace(current, bar=bar))

    def cool_down(self, account: Account, modality: str, retry_after: float | None) -> None:
        """Record a 429: do not use the account for this modality, or EVERYTHING, for `retry_after` seconds."""
        seconds = DEFAULT_COOLDOWN_SECONDS if retry_after is None else min(retry_after, MAX_COOLDOWN_SECONDS)
        now, current = self._now(), self._accounts.get(account.user_id)
        if current is not None and seconds > 0:
            until = max(now + seconds, current.cooldowns.get(modality, 0.0))
            last_cooldown = Cooldown(modality, now, seconds)
            self._put(replace(current, cooldowns={**current.cooldowns, modality: until}, last_cooldown=last_cooldown))

    def note_limit(self, user_id: str, kind: str, headers: tuple[str, str] | None) -> None:
        """Record the account's limit for a kind of call, a modality or `login`, from `Credentials.limit`."""
        if headers is not None and (limit := read_limit(*headers)) is not None:
            self._limits.setdefault(user_id, {})[kind] = ReportedLimit(limit, self._now())

    def limits(self, user_id: str) -> Mapping[str, ReportedLimit]:
        """The account's limits as the site last reported them in this run, by the kind of call."""
        return self._limits.get(user_id, {})

    def note_attempt(self, user_id: str, kind: str, *, failed: bool) -> None:
        """Record how an attempt ended: an account that fails is not preferred for the requests that it has left."""
        if failed:
            self._failed.add((user_id, kind))
        else:
            self._failed.discard((user_id, kind))

    def requests_left(self, user_id: str, kind: str) -> int | None:
        """How many requests of a kind the account has left by the site's last report; None if that is unknown."""
        now, seen = self._now(), self._limits.get(user_id, {}).get(kind)
        return None if seen is None else seen.limit.left(now - seen.at)

    def credentials(self, account: Account, on_rotated: Callable[[], None] = lambda: None) -> Credentials:
        """Credentials with the account's current cookie; each cookie that replaces it becomes the account's.

        `on_rotated` is called after each replacement. If the account was given another cookie meanwhile, it keeps that
        one, which may belong to another login.
        """
        current = account.session.value

        def rotated(value: str) -> None:
            nonlocal current
            before, current = current, value
            self._replace(account.user_id, before, value)
            on_rotated()

        return Credentials(current, rotated)

    def _replace(self, user_id: str, before: str, value: str) -> None:
        """Record that the site replaced the session cookie `before`, which is no longer valid, with `value`."""
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


def _read_cooldown(value: object) -> Cooldown | None:
    match value:
        case [str(kind), (int() | float()) as at, (int() | float()) as seconds]:
            return Cooldown(kind, float(at), float(seconds))
    return None


def _shortened(account: Account, latest: float) -> Account:
    if all(until <= latest for until in account.cooldowns.values()):
        return account
    return replace(account, cooldowns={kind: min(latest, until) for kind, until in account.cooldowns.items()})


def digest(session_value: str) -> bytes:
    """Identify a session cookie without revealing it."""
    return sha256(session_value.encode()).digest()


def _shifted(account: Account, seconds: float) -> Account:
    if not account.cooldowns:
        return account
    return replace(account, cooldowns={kind: until + seconds for kind, until in account.cooldowns.items()})
