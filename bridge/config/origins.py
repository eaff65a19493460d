"""Where the value of a setting came from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePath
from typing import Any, Final, NamedTuple


class Source(StrEnum):
    """The kind of an origin."""

    DEFAULT = "default"
    FILE = "file"
    CREDENTIAL = "credential"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"
    PARENT = "parent process"
    DASHBOARD = "dashboard"


class Origin(NamedTuple):
    """`where` is `PATH:LINE` in a file, the path of a credential, the name of a variable, or an option."""

    source: Source = Source.DEFAULT
    where: str = ""

    def __str__(self) -> str:
        match self.source:
            case Source.FILE:
                return self.where
            case Source.CREDENTIAL:
                return f"credential {PurePath(self.where).name}"
        return " ".join(filter(None, (self.source, self.where)))

    @property
    def short(self) -> str:
        """The same without folders, for bug reports, such as `bridge.toml:12`."""
        return PurePath(self.where).name if self.source is Source.FILE else str(self)


DEFAULT: Final = Origin()


class Setting(NamedTuple):
    """A value, in the types of TOML, that an origin gives to a key; `name` is its full name, such as `server.port`."""

    origin: Origin
    name: str
    value: Any
