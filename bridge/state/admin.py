"""`admin.json`, the owner's settings: the dashboard's password, the clearance pasted there, and favourite models."""

from __future__ import annotations

import hmac
import re
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Final

from bridge.state.documents import Document, StateFolder
from bridge.state.formats import DocumentFormat
from upstream.protocol.cookies import COOKIE_OCTET

_HASH: Final = re.compile(r"\$argon2id\$v=19\$m=\d{1,6},t=\d{1,2},p=\d{1,2}(\$[A-Za-z0-9+/]{8,128}){2}")
_COOKIE_VALUE: Final = re.compile(rf"{COOKIE_OCTET}{{1,4096}}")
_USER_AGENT: Final = re.compile(r"[ -~]{0,1024}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MODEL_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,256}")
MAX_FAVOURITES: Final = 100


@dataclass(frozen=True, slots=True)
class Clearance:
    """A `cf_clearance` pasted into the dashboard, and its browser's user agent, which may be empty as in bridge.toml.

    `instead_of` is the SHA-256 in hex of the value in bridge.toml that it replaces: when that changes, bridge.toml
    takes precedence again. Raises ValueError, saying which field is wrong and what it may be.
    """

    value: str = field(repr=False)
    user_agent: str
    instead_of: str

    def __post_init__(self) -> None:
        _check("value", self.value, _COOKIE_VALUE, "a cookie's value, without its name")
        _check("user_agent", self.user_agent, _USER_AGENT, "one line of printable ASCII, or empty")
        _check("instead_of", self.instead_of, _DIGEST, "a SHA-256 in hex")

    @classmethod
    def replacing(cls, configured: str, value: str, user_agent: str) -> Clearance:
        """A clearance to use while the value in bridge.toml is `configured`, which may be empty. Raises ValueError."""
        return cls(value, user_agent, _digest(configured))

    def replaces(self, configured: str) -> bool:
        """Whether this clearance still applies when the value in bridge.toml is `configured`."""
        return hmac.compare_digest(self.instead_of, _digest(configured))


@dataclass(frozen=True, slots=True)
class Admin:
    """What `admin.json` holds. Without a password nobody can log in. Raises ValueError as Clearance does."""

    password_hash: str | None = field(default=None, repr=False)
    clearance: Clearance | None = None
    favourites: tuple[str, ...] = ()  # listed names of models, the newest last

    def __post_init__(self) -> None:
        if len(self.favourites) > MAX_FAVOURITES:
            raise ValueError(f"favourites: must be at most {MAX_FAVOURITES}")
        for name in self.favourites:
            _check("favourites", name, _MODEL_NAME, "names of 1 to 256 characters")
        if self.password_hash is not None:
            _check("password_hash", self.password_hash, _HASH, "an argon2id hash, or nothing")

    def to_json(self) -> dict[str, object]:
        """A JSON object; `from_json` reads it back. `favourites` is omitted if there are none."""
        written = asdict(self)
        if not self.favourites:
            del written["favourites"]
        return written

    @classmethod
    def from_json(cls, value: object) -> Admin:
        """Read what `to_json` wrote. Raises ValueError, also on an unknown field, which a save would drop."""
        match value:
            case {"password_hash": password_hash, "clearance": clearance, **rest} if rest.keys() <= {"favourites"}:
                favourites = rest.get("favourites", [])
                if not isinstance(favourites, list):
                    raise ValueError("favourites: must be a list")
                return cls(password_hash, None if clearance is None else _clearance(clearance), tuple(favourites))
        raise ValueError("must have password_hash and clearance, may have favourites, and nothing else")

    def with_favourite(self, name: str, *, wanted: bool) -> Admin:
        """The same with a model added to the favourites, as the newest, or removed. Raises ValueError."""
        others = tuple(other for other in self.favourites if other != name)
        return replace(self, favourites=(*others, name) if wanted else others)


#: `admin.json`. It is a secret: it holds the clearance in plain text.
ADMIN: Final = DocumentFormat("admin", 1, Admin.from_json, Admin.to_json, Admin(), precious=True)


def admin_document(folder: StateFolder) -> Document[Admin]:
    """`admin.json` of a state folder."""
    return folder.open(ADMIN)


def _clearance(value: object) -> Clearance:
    match value:
        case {"value": secret, "user_agent": user_agent, "instead_of": instead_of, **rest} if not rest:
            return Clearance(secret, user_agent, instead_of)
    raise ValueError("a clearance must have value, user_agent and instead_of, and nothing else")


def _check(name: str, value: object, shape: re.Pattern[str], allowed: str) -> None:
    # The value itself stays out of the message: it may be a secret.
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise ValueError(f"{name}: must be {allowed}")


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
