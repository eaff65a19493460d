"""The settings of the site that a test can change at any time: its era, accepted modes, token lifetime, …"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

Era: TypeAlias = Literal[2025, 2026]

#: The path of the page for chats with a single model. Server actions are posted to the same path.
_PAGES: Final[Mapping[Era, str]] = {2025: "/?mode=direct", 2026: "/text/direct"}
_MODES: Final[Mapping[Era, frozenset[str]]] = {2025: frozenset({"direct"}), 2026: frozenset({"direct-battle"})}


class Traits:
    """The site's settings. Setting `era` resets those that depend on it.

    | attribute | meaning |
    |---|---|
    | `era` | the protocol of the site: that of late 2025, or of autumn 2026 |
    | `modes` | the modes that `create-evaluation` accepts |
    | `account_modes` | the same for individual accounts, by user id |
    | `battle_every` | the site demands a battle at every n-th follow-up of an evaluation; 0 for never |
    | `page_path` | the page's path; its former paths answer 301 |
    | `page_models` | whether the page holds the list of models |
    | `bare_script_names` | whether the upload actions' script is named only in the flight data, without `/_next/` |
    | `catalog_served` | whether there is a model catalog |
    | `token_seconds` | the lifetime of a renewed access token |
    | `renew_within` | a GET renews a session whose token expires within this many seconds |
    | `renew_in_pieces` | whether a renewal sets the cookie in pieces |
    | `id_offset_seconds` | how much the time within a new id may differ from the site's clock |
    | `keeps_generating` | whether the site completes an answer although its transport broke |
    | `moved_to` | the origin that every request is redirected to, or None |

    The settings for renewals, the catalog and the time within ids apply to 2026 only.
    """

    modes: frozenset[str]
    bare_script_names: bool

    def __init__(self, era: Era) -> None:
        self.account_modes: dict[str, frozenset[str]] = {}
        self.battle_every: int = 0
        self.page_models: bool = True
        self.catalog_served: bool = True
        self.token_seconds: float = 3600.0
        self.renew_within: float = 300.0
        self.renew_in_pieces: bool = False
        self.id_offset_seconds: float = 300.0
        self.keeps_generating: bool = False
        self.moved_to: str | None = None
        self.era = era

    @property
    def era(self) -> Era:
        """2025 or 2026."""
        return self._era

    @era.setter
    def era(self, era: Era) -> None:
        if era not in _PAGES:
            raise ValueError(f"era must be 2025 or 2026, not {era!r}")
        self._era: Era = era
        self._page_path = _PAGES[era]
        self._former_pages = {"/"} if era == 2026 else set[str]()
        self.modes = _MODES[era]
        self.bare_script_names = era == 2026

    @property
    def page_path(self) -> str:
        """The page's path, including its query."""
        return self._page_path

    @page_path.setter
    def page_path(self, path: str) -> None:
        self._former_pages.add(self._page_path.partition("?")[0])
        self._page_path = path
        self._former_pages.discard(path.partition("?")[0])

    @property
    def former_pages(self) -> frozenset[str]:
        """The paths that redirect to the page, without their queries."""
        return frozenset(self._former_pages)

    def modes_of(self, user_id: str) -> frozenset[str]:
        """The modes in which an account may begin an evaluation."""
        return self.account_modes.get(user_id, self.modes)

    def traits(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {name: _as_json(getattr(self, name)) for name in _READERS}

    def set_traits(self, values: Mapping[str, object]) -> None:
        """Set the given settings from JSON values; all of them or none.

        Raises:
            ValueError: a name or a value's type is invalid; the text says which.
        """
        read: dict[str, Any] = {}
        for name, value in values.items():
            if name not in _READERS:
                raise ValueError(f"there is no trait {name!r}; known are {', '.join(_READERS)}")
            read[name] = _READERS[name](name, value)
        for name, value in sorted(read.items(), key=lambda item: item[0] != "era"):  # era first, since it resets others
            setattr(self, name, value)


def _wrong(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name} must be {expected}, not {value!r}")


def _era(name: str, value: object) -> Era:
    if value == 2025:
        return 2025
    if value == 2026:
        return 2026
    raise _wrong(name, value, "2025 or 2026")


def _bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(name, value, "an integer from 0")
    return value


def _seconds(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(name, value, "a number of seconds")
    return float(value)


def _path(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise _wrong(name, value, "a path that begins with /")
    return value


def _origin(name: str, value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and value.startswith(("http://", "https://"))):
        raise _wrong(name, value, "an origin or null")
    return value


def _words(name: str, value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise _wrong(name, value, "a list of words")
    return frozenset(value)


def _words_by_account(name: str, value: object) -> dict[str, frozenset[str]]:
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object of lists of words")
    return {str(account): _words(name, words) for account, words in value.items()}


_READERS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "era": _era,
    "modes": _words,
    "account_modes": _words_by_account,
    "battle_every": _count,
    "page_path": _path,
    "page_models": _bool,
    "bare_script_names": _bool,
    "catalog_served": _bool,
    "token_seconds": _seconds,
    "renew_within": _seconds,
    "renew_in_pieces": _bool,
    "id_offset_seconds": _seconds,
    "keeps_generating": _bool,
    "moved_to": _origin,
}


def _as_json(value: object) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items()}
    return value
