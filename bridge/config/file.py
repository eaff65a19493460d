"""The sources of the configuration: the command line, the environment, systemd credentials and bridge.toml.

A value comes, in order of precedence, from the command line, from `LMARENA_BRIDGE_<SECTION>__<KEY>`, from a systemd
credential named `<section>.<key>`, from the file, or from the default.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from bridge.config.origins import Origin, Setting, Source
from bridge.config.problems import ConfigError, ConfigUnavailable, Problem
from bridge.config.schema import KEYS, NO_PLACE, SECTIONS, Config
from bridge.state.regular_file import NotReadable, read

FILE_NAME: Final = "bridge.toml"
PREFIX: Final = "LMARENA_BRIDGE_"
MAX_FILE_BYTES: Final = 256 * 1024
MAX_PROBLEMS: Final = 50

#: A file that has changed so recently may still be written to: it is checked repeatedly until it stays the same.
JUST_WRITTEN_SECONDS: Final = 2.0
CHECK_SECONDS: Final = 0.2
MAX_CHECKS: Final = 25

#: Errors that mean that the path is wrong or not readable by this user; all others may be temporary.
_WRONG_PLACE: Final = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
)


class ConfigSource:
    """The sources of a daemon's configuration, read at the start and again on reload. Blocking."""

    def __init__(self, path: Path | None, environ: Mapping[str, str], fixed: Sequence[Setting] = ()) -> None:
        """`fixed` are settings that override all other sources, such as those of the command line."""
        self._path = path
        self._environ = environ
        self._fixed = fixed
        self._text = ""

    def load(self) -> Config:
        """Read the configuration as the function `load` does. Raises ConfigError."""
        return self._load(_read)

    def reload(self) -> Config:
        """Read it again; refuse a file that has been emptied or truncated meanwhile. Raises ConfigError."""
        return self._load(lambda path: _read_again(path, self._text))

    def _load(self, read_text: Callable[[Path], str]) -> Config:
        path = self._path or next((each for each in _usual_places(self._environ) if os.access(each, os.F_OK)), None)
        text = read_text(path) if path else ""
        try:
            config = _combine(path, text, self._environ, self._fixed)
        except RecursionError as error:
            raise ConfigError(Problem(str(path or NO_PLACE), "", "is nested too deeply")) from error
        # A reload reads the same file: if it is missing then, that is an error, and does not mean the defaults.
        self._path, self._text = config.source, text
        return config


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the configuration from the file at `path`, from systemd credentials and from `environ`.

    Without `path` the file is `bridge.toml` in the working folder, or in the user's configuration folder, if it exists.
    Raises ConfigError with all problems.
    """
    return ConfigSource(path, environ).load()


def _combine(path: Path | None, text: str, environ: Mapping[str, str], fixed: Iterable[Setting]) -> Config:
    """Merge the values of all sources into one set of tables, record where each came from, and read them."""
    tables: dict[str, object] = {section: {} for section in SECTIONS} | _parse(path, text)
    lines = {name: f"{path}:{line}" for name, line in _lines(text).items()}
    origins = {name: Origin(Source.FILE, lines.get(name, str(path))) for name in _known_names(tables)}
    places = lines.copy()
    state_directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state_directory and isinstance(server := tables["server"], dict) and "state_dir" not in server:
        server["state_dir"] = state_directory
        origins["server.state_dir"] = Origin(Source.ENVIRONMENT, "STATE_DIRECTORY")
    for origin, name, value in (*_credentials(environ), *_variables(environ), *fixed):
        section, _, key = name.partition(".")
        places.setdefault(section, origin.where)
        if isinstance(table := tables.setdefault(section, {}), dict):
            table[key] = value
            places[name] = origin.where
            origins[name] = origin
    problems = list(_variables_without_section(environ))
    try:
        config = Config.read(tables, path and path.absolute(), origins)
    except ConfigError as error:
        problems += (each._replace(where=_where(each.key, places)) for each in error.problems)
    else:
        if not problems:
            return config
    if (more := len(problems) - MAX_PROBLEMS) > 0:
        problems[MAX_PROBLEMS:] = [Problem(str(path or NO_PLACE), "", f"{more:,} more problems")]
    raise ConfigError(*problems)


def _known_names(tables: Mapping[str, object]) -> Iterator[str]:
    """The full names of the known keys in parsed tables."""
    for section, table in tables.items():
        if isinstance(table, dict):
            yield from (name for key in table if (name := f"{section}.{key}") in KEYS)


def _where(name: str, places: Mapping[str, str]) -> str:
    """Where a key, or a member such as `server.trusted_proxies[1]`, was set, or else its section; or else NO_PLACE."""
    key, section = name.partition("[")[0], name.partition(".")[0]
    return places.get(key) or places.get(section) or NO_PLACE


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
        raised = ConfigError if error.errno in _WRONG_PLACE else ConfigUnavailable
        raise raised(Problem(str(path), "", f"cannot be read: {error.strerror}")) from error
    if stat.S_ISFIFO(status.st_mode) and not data.strip():
        raise ConfigError(Problem(str(path), "", "is a pipe without data"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(Problem(f"{path}:{line}", "", "is not UTF-8")) from error


def _read_again(path: Path, before: str) -> str:
    """Read a file whose text was `before`. Raises ConfigError if it looks half-written."""
    with suppress(OSError):  # `_read` reports it
        status = path.stat()
        if stat.S_ISFIFO(status.st_mode):
            advice = "a pipe can be read only once: restart the daemon, with a regular file if you want to reload"
            raise ConfigError(Problem(str(path), "", advice))
        if abs(time.time() - status.st_mtime) < JUST_WRITTEN_SECONDS:
            _await_writer(path)
    text = _read(path)
    if _is_blank(text) and not _is_blank(before):
        what = "is empty now, perhaps because it is not yet written; if you want the defaults, restart the daemon"
        raise ConfigError(Problem(str(path), "", what))
    if before.startswith(text) and not _is_blank(before[len(text) :]):
        what = "has lost its end, perhaps because it is not yet written; if you removed it on purpose"
        raise ConfigError(Problem(str(path), "", f"{what}, add a last line such as # end, and reload again"))
    return text


def _await_writer(path: Path) -> None:
    """Wait until a file stays the same for CHECK_SECONDS, but for no more than MAX_CHECKS checks."""
    seen = None
    for _ in range(MAX_CHECKS):
        status = path.stat()
        if seen == (seen := (status.st_ino, status.st_size, status.st_mtime_ns)):
            return
        time.sleep(CHECK_SECONDS)  # before the event loop starts, or in a thread


def _is_blank(text: str) -> bool:
    """Whether a text consists of comments and white space."""
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.split("\n"))


def _parse(path: Path | None, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        what, _, where = str(error).partition(" (at ")
        if position := re.fullmatch(r"line (\d+), column (\d+)\)", where):
            line, column = position.groups()
        else:  # at the end of the document
            line, column = str(text.count("\n") + 1), str(len(text) - text.rfind("\n"))
        raise ConfigError(Problem(f"{path}:{line}:{column}", "", f"is not TOML: {what}")) from error


_KEY: Final = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_HEADER_OR_KEY: Final = re.compile(
    rf"\s*(?:\[\[?\s*(?P<table>{_KEY}(?:\s*\.\s*{_KEY})*)\s*\]|(?P<key>{_KEY}(?:\s*\.\s*{_KEY})*)\s*=)"
)


def _lines(text: str) -> dict[str, int]:
    """The first line of each table and key of a TOML text; may be wrong inside a value of several lines."""
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
        for depth in range(1, min(len(names), 2) + 1):  # the bridge's keys are no deeper
            lines.setdefault(".".join(names[:depth]), number)
    return lines


def _credentials(environ: Mapping[str, str]) -> Iterator[Setting]:
    """The settings that systemd's LoadCredential= provides; other files are ignored."""
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        for name in KEYS:
            path = Path(folder, name)
            if os.access(path, os.F_OK):
                yield Setting(Origin(Source.CREDENTIAL, str(path)), name, _parse_value(name, _read(path).strip()))


def _variables(environ: Mapping[str, str]) -> Iterator[Setting]:
    """The settings of variables LMARENA_BRIDGE_<SECTION>__<KEY>."""
    for variable, text in environ.items():
        section, separator, key = variable.removeprefix(PREFIX).lower().partition("__")
        if separator and variable.startswith(PREFIX):
            name = f"{section}.{key}"
            yield Setting(Origin(Source.ENVIRONMENT, variable), name, _parse_value(name, text))


def _variables_without_section(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Report misspelled variables such as LMARENA_BRIDGE_PORT. Names unlike any key may be other programs'."""
    meant: dict[str, str] = {}
    for name in KEYS:
        section, _, key = name.upper().partition(".")
        for written in (key, f"{section}_{key}"):
            meant.setdefault(written, f"{PREFIX}{section}__{key}")
    for variable in environ:
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and "__" not in name:
            for close in get_close_matches(name, meant, n=1, cutoff=0.8):
                yield Problem(variable, "", f"names no section; did you mean {meant[close]}?")


def _parse_value(name: str, text: str) -> object:
    """Parse a text as a TOML value; if that fails, or the key takes strings, it remains a string."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
    takes_text = name in KEYS and isinstance(KEYS[name].default, str)
    return text if takes_text and not isinstance(value, str) else value
