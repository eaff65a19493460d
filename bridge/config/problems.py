"""The problems of a configuration, each with its place, its key, and what is wrong."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """One problem. `where` is `file:line`, a variable or a credential; `key` is a full name, '' for a whole file.

    `found` is the wrong value, '' if there is none to show. It never contains a secret.
    """

    where: str
    key: str
    message: str
    found: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.where, self.key, self.message)))


class ConfigError(Exception):
    """The configuration cannot be used; `problems` lists all reasons, and str() has one line for each."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ConfigUnavailable(ConfigError):
    """The file cannot be read now; another attempt may succeed without a change to the configuration."""
