"""Lua scripts, which Redis runs atomically. Each is a file in `scripts/`."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import Final, TypeAlias

#: One word of a command.
Word: TypeAlias = bytes | str | int | float

_FOLDER: Final = Path(__file__).with_name("scripts")


class Script:
    """One script. Once Redis has run it, the digest of its source is enough to call it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        self.digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: tuple[str, ...], *arguments: Word) -> ScriptCall:
        """The command that runs this script."""
        return ScriptCall(self, keys, arguments)


class ScriptCall:
    """A command that runs a script."""

    __slots__ = ("_arguments", "_keys", "script")

    def __init__(self, script: Script, keys: tuple[str, ...], arguments: tuple[Word, ...]) -> None:
        self.script = script
        self._keys = keys
        self._arguments = arguments

    def evalsha(self) -> tuple[Word, ...]:
        """The words of the command, for a server that has the script in its cache."""
        return ("EVALSHA", self.script.digest, len(self._keys), *self._keys, *self._arguments)

    def eval(self) -> tuple[Word, ...]:
        """The words of the command with the script's source, which the server caches."""
        return ("EVAL", self.script.source, len(self._keys), *self._keys, *self._arguments)
