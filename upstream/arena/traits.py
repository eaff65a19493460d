"""What a test can set about the site at any time: its era, the modes that it accepts, how long tokens live, …"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

Era: TypeAlias = Literal[2025, 2026]

#: The page that a chat with one chosen model begins on. An action is posted to the same path.
_PAGES: Final[Mapping[Era, str]] = {2025: "/?mode=direct", 2026: "/text/direct"}
_MODES: Final[Mapping[Era, frozenset[str]]] = {2025: frozenset({"direct"}), 2026: frozenset({"direct-battle"})}


class Traits:
    """The site's settings, each a plain attribute. Setting `era` resets those that depend on it.

    | attribute | meaning |
    |---|---|
    | `era` | which protocol the site speaks: that of late 2025, or that of autumn 2026 |
    | `modes` | the modes that `create-evaluation` accepts |
    | `account_modes` | the same for single accounts, by user id |
    | `battle_every` | the site insists on a battle at every so many follow-ups of an evaluation; 0 for never |
    | `page_path` | where the page is; every path it had before answers 301 |
    | `page_models` | whether the page holds the list of models |
    | `bare_script_names` | whether the upload actions' script is named only in the flight data, without `/_next/` |
    | `catalog_served` | whether the model catalog is there |
    | `token_seconds` | how long a renewed access token lives |
    | `renew_within` | a GET renews a session whose token ends within so many seconds |
    | `renew_in_pieces` | whether a renewal sets the cookie in pieces |
    | `id_offset_seconds` | by how much the time within a new id may differ from the site's clock |
    | `keeps_generating` | whether an answer is completed although its transport broke |
    | `moved_to` | the origin that every request is redirected to, or None |

    What is said of renewals, of the catalog and of the time within ids holds in 2026 only.
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
            raise ValueError(f"era is 2025 or 2026, not {era!r}")
        self._era: Era = era
        self._page_path = _PAGES[era]
        self._former_pages = {"/"} if era == 2026 else set[str]()
        self.modes = _MODES[era]
        self.bare_script_names = era == 2026

    @property
    def page_path(self) -> str:
        """The page's path, with its query if it has one."""
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
        """The modes that an account may begin an evaluation in."""
        return self.account_modes.get(user_id, self.modes)

    def traits(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {name: _as_json(getattr(self, name)) for name in _READERS}

    def set_traits(self, values: Mapping[str, object]) -> None:
        """Set those that are named, from JSON values; all of them or none.

        Raises:
            ValueError: a name or a value's type is wrong; the text says which.
        """
        read: dict[str, Any] = {}
        for name, value in values.items():
            if name not in _READERS:
                raise ValueError(f"no trait is called {name!r}; known are {', '.join(_READERS)}")
            read[name] = _READERS[name](name, value)
        for name, value in sorted(read.items(), key=lambda item: item[0] != "era"):  # era resets others, so it is first
            setattr(self, name, value)


def _wrong(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name} is {expected}, not {value!r}")


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
        raise _wrong(name, value, "a count from 0")
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
