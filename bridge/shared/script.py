"""Lua scripts that Redis runs as one step, each a file of `scripts/`."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import Final, TypeAlias

#: One word of a command.
Word: TypeAlias = bytes | str | int | float

_FOLDER: Final = Path(__file__).with_name("scripts")


class Script:
    """One script. Redis knows it by the digest of its source once it has run it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        self.digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: tuple[str, ...], *arguments: Word) -> ScriptCall:
        """The command that runs it."""
        return ScriptCall(self, keys, arguments)


class ScriptCall:
    """One run of a script."""

    __slots__ = ("_arguments", "_keys", "script")

    def __init__(self, script: Script, keys: tuple[str, ...], arguments: tuple[Word, ...]) -> None:
        self.script = script
        self._keys = keys
        self._arguments = arguments

    def known(self) -> tuple[Word, ...]:
        """Its words, for a server that knows the script."""
        return ("EVALSHA", self.script.digest, len(self._keys), *self._keys, *self._arguments)

    def whole(self) -> tuple[Word, ...]:
        """Its words with the source, which the server remembers."""
        return ("EVAL", self.script.source, len(self._keys), *self._keys, *self._arguments)
