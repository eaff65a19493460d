"""Settings for display, to people and programs: in the order of bridge.toml, with their origins, without secrets."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from bridge.config.origins import DEFAULT, Origin
from bridge.config.schema import KEYS, Config
from bridge.config.values import (
    ALIASES,
    CORS_ORIGINS,
    HOST,
    KEY_PREFIX,
    LINE,
    NAMES,
    NETWORKS,
    PATH,
    TLS_CERT,
    TLS_KEY,
    Secret,
)
from bridge.log import redact

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain]"

SET: Final = "set, not shown"
NOT_SET: Final = "not set"
#: Integers from this one on are written with grouped digits, as in bridge.toml.
_GROUPED_FROM: Final = 100_000
#: The types of values that may name a person, a machine or a network, so that reports leave them out.
_PRIVATE_KINDS: Final = (HOST, LINE, NAMES, NETWORKS, ALIASES, CORS_ORIGINS, KEY_PREFIX, PATH, TLS_CERT, TLS_KEY)


class ShownSetting(NamedTuple):
    """A setting. `value` is None if it is a secret or looks like one; `is_set` says whether it has a value."""

    name: str
    value: Plain | None
    is_set: bool
    origin: Origin
    needs_restart: bool

    @property
    def secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.value is None

    @property
    def text(self) -> str:
        """Its value as written in bridge.toml; for a secret, whether it is set."""
        return (SET if self.is_set else NOT_SET) if self.value is None else to_toml(self.value)

    @property
    def section(self) -> str:
        """The name of its table in bridge.toml."""
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        """Its name within the table."""
        return self.name.partition(".")[2]

    @property
    def description(self) -> str:
        """What it is for."""
        return KEYS[self.name].description

    @property
    def allowed(self) -> str:
        """The values that it accepts."""
        return KEYS[self.name].kind.allowed

    @property
    def is_default(self) -> bool:
        """Whether no source sets it."""
        return self.origin == DEFAULT

    def to_json(self) -> dict[str, object]:
        """Plain values, for programs."""
        return {
            "value": self.value,
            "secret": self.secret,
            "set": self.is_set,
            "origin": self.origin.source.value,
            "where": self.origin.where,
            "needs_restart": self.needs_restart,
        }

    def to_report(self) -> dict[str, object]:
        """Plain values for bug reports: no paths, no names of machines, networks or models, no folders in origins."""
        is_private = not self.is_default and KEYS[self.name].kind in _PRIVATE_KINDS
        value = self.text if self.secret else SET if is_private or self.name == "server.state_dir" else self.value
        return {"value": value, "origin": self.origin.short}


class Change(NamedTuple):
    """A setting whose value has changed, with both values as written in bridge.toml; secrets are not shown."""

    name: str
    before: str
    after: str
    origin: Origin
    needs_restart: bool


def shown_settings(config: Config) -> tuple[ShownSetting, ...]:
    """Every setting, in the order of bridge.toml."""
    return tuple(_shown_setting(config, name) for name in KEYS)


def changes(before: Config, after: Config) -> tuple[Change, ...]:
    """The settings whose values differ, in the order of bridge.toml."""
    return tuple(_change(before, after, name) for name in KEYS if attrgetter(name)(before) != attrgetter(name)(after))


def _change(before: Config, after: Config, name: str) -> Change:
    old, new = _shown_setting(before, name), _shown_setting(after, name)
    text = "another one" if new.text == old.text else new.text  # a secret was replaced by another one
    return Change(name, old.text, text, new.origin, new.needs_restart)


def _shown_setting(config: Config, name: str) -> ShownSetting:
    value = attrgetter(name)(config)
    shown_value = None if isinstance(value, Secret) else plain(value)
    if shown_value is not None and redact(text := to_toml(shown_value)) != text:  # a secret in the wrong place
        shown_value = None
    is_set = bool(value.value if isinstance(value, Secret) else value not in ("", None, ()))
    return ShownSetting(name, shown_value, is_set, config.origins.get(name, DEFAULT), KEYS[name].needs_restart)


def plain(value: object) -> Plain:
    """A setting's value in types that JSON and TOML have; a float without a fraction becomes an integer."""
    if value is None:
        return ""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, str | int):
        return value
    if isinstance(value, tuple):
        if value and all(isinstance(each, tuple) for each in value):  # aliases
            return {name: models[0] if len(models) == 1 else list(models) for name, models in value}
        return [plain(each) for each in value]
    return str(value)  # a path, a network


def to_toml(value: Plain) -> str:
    """A plain value as written in bridge.toml."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(name)} = {to_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, bool | float):
        return json.dumps(value)
    if isinstance(value, int):
        return f"{value:_}" if value >= _GROUPED_FROM else str(value)
    return _quoted(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
