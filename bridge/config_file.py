"""bridge.toml, credentials and environment → Config; an error names file, key, what was found, what is allowed.

A value comes, in this order, from `LMARENA_BRIDGE_<SECTION>__<KEY>`, from a systemd credential named `<section>.<key>`,
from the file, from the default.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from bridge.config import KEYS, SECTIONS, Config, Wrong, WrongValues

FILE_NAME = "bridge.toml"
ENVIRONMENT_PREFIX = "LMARENA_BRIDGE_"
MAX_FOUND_CHARS = 80  # of a wrong value in a message: enough to recognise it, short enough for one line


class Problem(NamedTuple):
    """One thing wrong: `where` is `file:line`, a variable or a credential; `key` is `server.port`, '' for a whole file.

    `found` and `allowed` are words, '' where they say nothing; `found` never holds the value of a secret.
    """

    where: str
    key: str
    message: str
    found: str = ""
    allowed: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.where, self.key, self.message)))


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything wrong with it, its str() one line for each."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of file `path`, or without one of `bridge.toml` in the working folder, else in the user's
    configuration folder, else of no file; then of credentials and of `environ`. Raises ConfigError with all problems.
    """
    path = path or next((found for found in _usual_places(environ) if os.access(found, os.F_OK)), None)
    text = _read(path) if path else ""
    tables: dict[str, Any] = {section: {} for section in SECTIONS} | _parse(path, text)
    wheres = {name: f"{path}:{line}" for name, line in _lines(text).items()}
    state_directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state_directory and isinstance(tables["server"], dict):
        tables["server"].setdefault("state_dir", state_directory)
    for where, name, value in (*_credentials(environ), *_variables(environ)):
        section, _, key = name.partition(".")
        table = tables.setdefault(section, {})
        wheres.setdefault(section, where)
        if isinstance(table, dict):
            table[key] = value
            wheres[name] = where
    try:
        return Config.read(tables, path and path.absolute())
    except WrongValues as error:
        raise ConfigError(*[_problem(wrong, wheres) for wrong in error.wrong]) from error


def _usual_places(environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path(FILE_NAME)
    if home := environ.get("XDG_CONFIG_HOME"):
        yield Path(home, "lmarena-bridge", FILE_NAME)
    elif home := environ.get("HOME"):
        yield Path(home, ".config", "lmarena-bridge", FILE_NAME)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(Problem(str(path), "", f"cannot be read: {error.strerror}")) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(Problem(f"{path}:{line}", "", "is not UTF-8")) from error


def _parse(path: Path | None, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        what, _, place = str(error).partition(" (at ")
        if position := re.fullmatch(r"line (\d+), column (\d+)\)", place):
            line, column = position.groups()
        else:  # at the end of the document
            line, column = str(text.count("\n") + 1), str(len(text) - text.rfind("\n"))
        raise ConfigError(Problem(f"{path}:{line}:{column}", "", f"is not TOML: {what}")) from error


_KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_HEADER_OR_KEY = re.compile(
    rf"\s*(?:\[\[?\s*(?P<table>{_KEY}(?:\s*\.\s*{_KEY})*)\s*\]|(?P<key>{_KEY}(?:\s*\.\s*{_KEY})*)\s*=)"
)


def _lines(text: str) -> dict[str, int]:
    """The line where each table and key of a TOML text stands first; may err inside a value of several lines."""
    lines: dict[str, int] = {}
    prefix: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if not (match := _HEADER_OR_KEY.match(line)):
            continue
        names = tuple(name.strip("\"'") for name in re.findall(_KEY, match["table"] or match["key"]))
        if match["table"]:
            prefix = names
        else:
            names = prefix + names
        for depth in range(1, len(names) + 1):
            lines.setdefault(".".join(names[:depth]), number)
    return lines


def _credentials(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    """Where, name and value of each key that systemd's LoadCredential= gives; files of other names are not ours."""
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        for name in KEYS:
            path = Path(folder, name)
            if os.access(path, os.F_OK):
                yield str(path), name, _value(name, _read(path).strip())


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    for variable, text in environ.items():
        section, separator, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if separator and variable.startswith(ENVIRONMENT_PREFIX):
            name = f"{section}.{key}"
            yield variable, name, _value(name, text)


def _value(name: str, text: str) -> object:
    """TOML where it is TOML, else the text itself; a key that takes text takes `123` as text too."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text
    takes_text = name in KEYS and isinstance(KEYS[name].default, str)
    return text if takes_text and not isinstance(value, str) else value


def _problem(wrong: Wrong, wheres: Mapping[str, str]) -> Problem:
    name, found, place, known = wrong
    where = wheres.get(name) or wheres.get(name.partition(".")[0]) or "configuration"
    if not known:
        hint = _close_name(name)
        return Problem(where, name, "unknown name" + (f"; did you mean {hint}?" if hint else ""), allowed=hint)
    if name in SECTIONS:
        return Problem(where, name, f"allowed: a table [{name}]", allowed=f"a table [{name}]")
    kind = KEYS[name].kind
    shown = "a secret (not shown)" if kind.secret else _shown(found)
    index = "" if place is None else f"[{place}]"
    return Problem(where, name + index, f"found {shown}; allowed: {kind.allowed}", shown, kind.allowed)


def _close_name(name: str) -> str:
    """The known key or section that was probably meant, or ''."""
    last = name.rpartition(".")[2]
    same_key = [known for known in KEYS if known.endswith(f".{last}")]
    return next(iter(same_key or get_close_matches(name, (*KEYS, *SECTIONS), n=1)), "")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_FOUND_CHARS else text[:MAX_FOUND_CHARS] + "…"
