"""API keys and their rights. Only the SHA-256 of a key's secret is stored.

A secret is `sk-lmab-` and 32 random letters and digits (190 bits): too many to guess, so no slow hash is needed.
"""

from __future__ import annotations

import dataclasses
import hmac
import math
import re
import secrets
import string
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

MAX_RPM = 1_000_000
MAX_CONCURRENCY = 100_000
#: The largest daily budget, in requests or tokens.
MAX_BUDGET = 1_000_000_000_000
MAX_NOTE_CHARS = 200
#: How long the former secret of a rotated key stays valid, in seconds.
ROTATION_SECONDS = 86_400.0

_PREFIX = "sk-lmab-"
_ALPHABET = string.ascii_letters + string.digits
_RANDOM_CHARS = 32
_SECRET = re.compile(rf"{_PREFIX}[A-Za-z0-9]{{{_RANDOM_CHARS}}}")
_NAME = re.compile(r"[\w .\-]{1,64}")
_ID = re.compile(r"[0-9a-f]{4,32}")
_HASH = re.compile(r"[0-9a-f]{64}")
_HINT = re.compile(r"[A-Za-z0-9]{4}")
_NOTE = re.compile(rf"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{{0,{MAX_NOTE_CHARS}}}")
_GLOB = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. `rpm` and `concurrency` are None for the configured default; empty `models` allows all models.

    `stealth` gives access to stealth models, `metrics` to `/metrics`. `day_requests` and `day_tokens` are its daily
    budget (days in UTC), None for no limit. The key is refused from `expires` on (unix time; None for never), and while
    it is `paused`. `former_hash` is that of the secret before the last rotation, which stays valid until `former_until`
    (unix time).

    Raises ValueError, saying which field is wrong and what it may be.
    """

    id: str
    name: str
    hash: str = field(repr=False)
    hint: str
    rpm: int | None = None
    concurrency: int | None = None
    models: tuple[str, ...] = ()
    stealth: bool = False
    metrics: bool = False
    created: float = 0.0
    expires: float | None = None
    day_requests: int | None = None
    day_tokens: int | None = None
    paused: bool = False
    note: str = ""
    former_hash: str = field(default="", repr=False)
    former_until: float = 0.0

    def __post_init__(self) -> None:
        _check_text("id", self.id, _ID, "4 to 32 lower-case hex digits")
        _check_text("name", self.name, _NAME, "1 to 64 letters, digits, spaces and . _ -")
        _check_text("hash", self.hash, _HASH, "a SHA-256 in hex")
        _check_text("hint", self.hint, _HINT, "the secret's last 4 characters")
        _check_range("rpm", self.rpm, MAX_RPM)
        _check_range("concurrency", self.concurrency, MAX_CONCURRENCY)
        for glob in self.models:
            _check_text("models", glob, _GLOB, "printable globs of 1 to 256 characters")
        for right in ("stealth", "metrics", "paused"):
            if not isinstance(getattr(self, right), bool):
                raise ValueError(f"{right}: must be true or false")
        _check_range("day_requests", self.day_requests, MAX_BUDGET)
        _check_range("day_tokens", self.day_tokens, MAX_BUDGET)
        _check_text("note", self.note, _NOTE, f"one line of up to {MAX_NOTE_CHARS} printable characters")
        if self.former_hash:
            _check_text("former_hash", self.former_hash, _HASH, "a SHA-256 in hex")
        for moment in ("created", "expires", "former_until"):
            value = getattr(self, moment)
            if value is not None and (type(value) not in (int, float) or not 0 <= value < math.inf):
                raise ValueError(f"{moment}: must be a unix time in seconds")

    @property
    def budgeted(self) -> bool:
        """Whether the key has a daily budget."""
        return self.day_requests is not None or self.day_tokens is not None

    def has_expired(self, now: float) -> bool:
        """Whether the key has expired at `now`, a unix time."""
        return self.expires is not None and now >= self.expires

    def allows(self, model_names: Iterable[str]) -> bool:
        """Whether any of a model's names matches any of the key's globs."""
        return not self.models or any(fnmatchcase(name, glob) for name in model_names for glob in self.models)

    def to_json(self) -> dict[str, object]:
        """The key as a JSON object; `from_json` reads it back."""
        return asdict(self) | {"models": list(self.models)}

    @classmethod
    def from_json(cls, value: object) -> ApiKey:
        """Read what `to_json` wrote. Raises ValueError, also on an unknown field, which a save would drop."""
        if not isinstance(value, dict):
            raise ValueError("a key must be an object")
        known = [f.name for f in fields(cls)]
        if unknown := sorted(str(name) for name in value if name not in known):
            raise ValueError(f"unknown field {unknown[0]!r}; known are {', '.join(known)}")
        if missing := [name for name in ("id", "name", "hash", "hint") if name not in value]:
            raise ValueError(f"{missing[0]}: is missing")
        models = value.get("models", [])
        if not isinstance(models, list):
            raise ValueError("models: must be a list of globs")
        return cls(**{**value, "models": tuple(models)})


def _check_text(name: str, value: object, shape: re.Pattern[str], allowed: str) -> None:
    # The value itself stays out of the message: a secret pasted into the wrong field must not reach a log.
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise ValueError(f"{name}: must be {allowed}")


def _check_range(name: str, value: object, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        raise ValueError(f"{name}: must be a whole number from 1 to {high:,}, or nothing")


def generate(name: str, *, now: float, models: Iterable[str] = (), **rights: Any) -> tuple[str, ApiKey]:
    """Make a key: return its secret, to be shown once, and the key to store.

    `now` is unix time; `rights` are further fields of ApiKey, such as `rpm`. Raises ValueError.
    """
    secret = _new_secret()
    key = ApiKey(
        id=secrets.token_hex(6),
        name=name,
        hash=_digest(secret),
        hint=secret[-4:],
        models=tuple(models),
        created=now,
        **rights,
    )
    return secret, key


def rotated(key: ApiKey, now: float) -> tuple[str, ApiKey]:
    """Give a key a new secret: return it, to be shown once, and the changed key. The former stays valid for a day."""
    secret = _new_secret()
    changed = dataclasses.replace(
        key,
        hash=_digest(secret),
        hint=secret[-4:],
        former_hash=key.hash,
        former_until=now + ROTATION_SECONDS,
    )
    return secret, changed


def _new_secret() -> str:
    return _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS))


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


class KeyRing:
    """All keys, found by the hash of their secret. Immutable: a reload makes a new one. `clock` gives unix time."""

    __slots__ = ("_by_former_hash", "_by_hash", "_clock")

    def __init__(self, keys: Iterable[ApiKey] = (), clock: Callable[[], float] = time.time) -> None:
        self._by_hash = {key.hash: key for key in keys}
        self._by_former_hash = {key.former_hash: key for key in self if key.former_hash}
        self._clock = clock

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._by_hash.values())

    def __len__(self) -> int:
        return len(self._by_hash)

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret, or None. Text that does not look like a secret is not hashed."""
        if not _SECRET.fullmatch(secret):
            return None
        digest = _digest(secret)
        key = self._by_hash.get(digest)
        if key is not None:
            return key if hmac.compare_digest(key.hash, digest) else None
        key = self._by_former_hash.get(digest)
        return key if key is not None and self._clock() < key.former_until else None


def get(keys: Iterable[ApiKey], name_or_id: str) -> ApiKey:
    """The key with this name or id. Raises ValueError if there is none."""
    for key in keys:
        if name_or_id in (key.name, key.id):
            return key
    raise ValueError(f"no key named {name_or_id!r}")


def add(keys: Iterable[ApiKey], key: ApiKey) -> tuple[ApiKey, ...]:
    """`keys` with `key` appended. Raises ValueError if its name or id is already taken."""
    kept = tuple(keys)
    if any({key.name, key.id} & {other.name, other.id} for other in kept):
        raise ValueError(f"there is already a key named {key.name!r}")
    return (*kept, key)


def replace(keys: Iterable[ApiKey], key: ApiKey) -> tuple[ApiKey, ...]:
    """`keys` with `key` replacing the one of the same id. Raises ValueError if there is none or the name is taken."""
    kept = tuple(keys)
    old = get(kept, key.id)
    add((other for other in kept if other is not old), key)  # raises if the name is taken
    return tuple(key if other is old else other for other in kept)


def remove(keys: Iterable[ApiKey], name_or_id: str) -> tuple[ApiKey, ...]:
    """`keys` without the one with this name or id. Raises ValueError if there is none."""
    kept = tuple(keys)
    removed = get(kept, name_or_id)
    return tuple(key for key in kept if key is not removed)
