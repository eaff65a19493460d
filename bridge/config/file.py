"""bridge.toml, credentials and environment → Config; an error names file, key, what was found, what is allowed.

A value comes, in this order, from `LMARENA_BRIDGE_<SECTION>__<KEY>`, from a systemd credential named `<section>.<key>`,
from the file, from the default.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from bridge.config.schema import KEYS, SECTIONS, Config, Wrong, WrongValues
from bridge.state.regular_file import NotReadable, read

FILE_NAME = "bridge.toml"
ENVIRONMENT_PREFIX = "LMARENA_BRIDGE_"
MAX_FILE_BYTES = 256 * 1024
MAX_PROBLEMS = 50
MAX_FOUND_CHARS = 80  # of a wrong value in a message: enough to recognise it, short enough for one line

#: A file that was changed so recently may still be being written: it is looked at until it stays as it is.
JUST_WRITTEN_SECONDS = 2.0
LOOK_SECONDS = 0.2
MAX_LOOKS = 25

#: Errors that say that the path is wrong, or not for this user; all others may pass by themselves.
_WRONG_PLACE = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
)


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


class ConfigUnavailable(ConfigError):
    """The file cannot be read now; later it may be otherwise, without anybody's doing."""


class Source:
    """Where a daemon's configuration comes from: read at its start, and again when it is told to. Blocks."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._text = ""

    def load(self) -> Config:
        """The configuration as `load` reads it. Raises ConfigError."""
        path = self._path or _usual_path(self._environ)
        text = _read(path) if path else ""
        config = _build(path, text, self._environ)
        # The file that was found is the one to be read again: if it is missing then, that is an error, and no defaults.
        self._path, self._text = config.source, text
        return config

    def reload(self) -> Config:
        """The same, but a file that was emptied, or cut off since, was not meant so. Raises ConfigError."""
        path = self._path or _usual_path(self._environ)
        text = _read_again(path, self._text) if path else ""
        config = _build(path, text, self._environ)
        self._path, self._text = config.source, text
        return config


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of file `path`, or without one of `bridge.toml` in the working folder, else in the user's
    configuration folder, else of no file; then of credentials and of `environ`. Raises ConfigError with all problems.
    """
    return Source(path, environ).load()


def _build(path: Path | None, text: str, environ: Mapping[str, str]) -> Config:
    try:
        return _assemble(path, text, environ)
    except RecursionError as error:
        raise ConfigError(Problem(str(path or "configuration"), "", "is nested too deeply")) from error


def _assemble(path: Path | None, text: str, environ: Mapping[str, str]) -> Config:
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
        problems = [_problem(wrong, wheres) for wrong in error.wrong[:MAX_PROBLEMS]]
        if more := len(error.wrong) - len(problems):
            problems.append(Problem(str(path or "configuration"), "", f"{more:,} more problems"))
        raise ConfigError(*problems) from error


def _usual_path(environ: Mapping[str, str]) -> Path | None:
    return next((found for found in _usual_places(environ) if os.access(found, os.F_OK)), None)


def _usual_places(environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path(FILE_NAME)
    if home := environ.get("XDG_CONFIG_HOME"):
        yield Path(home, "lmarena-bridge", FILE_NAME)
    elif home := environ.get("HOME"):
        yield Path(home, ".config", "lmarena-bridge", FILE_NAME)


def _read(path: Path) -> str:
    try:
        data, status = read(path, MAX_FILE_BYTES, stream=True)
    except NotReadable as error:
        raise ConfigError(Problem(str(path), "", str(error))) from error
    except OSError as error:
        wrong = ConfigError if error.errno in _WRONG_PLACE else ConfigUnavailable
        raise wrong(Problem(str(path), "", f"cannot be read: {error.strerror}")) from error
    if stat.S_ISFIFO(status.st_mode) and not data.strip():
        raise ConfigError(Problem(str(path), "", "is a pipe that nothing comes out of"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(Problem(f"{path}:{line}", "", "is not UTF-8")) from error


def _read_again(path: Path, before: str) -> str:
    """The text of a file that was `before` when it was last read. Raises ConfigError where it is not whole."""
    with suppress(OSError):  # which `_read` tells
        status = path.stat()
        if stat.S_ISFIFO(status.st_mode):
            advice = "a pipe can be read only once: restart the daemon, with a file if it is to be reloaded"
            raise ConfigError(Problem(str(path), "", advice))
        if abs(time.time() - status.st_mtime) < JUST_WRITTEN_SECONDS:
            _await_writer(path)
    text = _read(path)
    if _says_nothing(text) and not _says_nothing(before):
        what = "is empty now, as if it were still being written; if the defaults are meant, restart the daemon"
        raise ConfigError(Problem(str(path), "", what))
    if before.startswith(text) and not _says_nothing(before[len(text) :]):
        what = "ends in the middle of what it was, as if it were still being written; if that is meant"
        raise ConfigError(Problem(str(path), "", f"{what}, end it with a comment, such as # end, and reload again"))
    return text


def _await_writer(path: Path) -> None:
    """Return once a file has not changed for a moment, or after a while."""
    seen = None
    for _ in range(MAX_LOOKS):
        status = path.stat()
        if seen == (seen := (status.st_ino, status.st_size, status.st_mtime_ns)):
            return
        time.sleep(LOOK_SECONDS)  # at the start, or in a thread of its own


def _says_nothing(text: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.split("\n"))


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
        for depth in range(1, min(len(names), 2) + 1):  # no key of ours is deeper
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
    except (ValueError, RecursionError):
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
