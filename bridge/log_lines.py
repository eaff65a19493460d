"""The lines of the log: JSON, or text with `key=value`, of bounded length and without control characters."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TypeAlias

from upstream.protocol.printable import replaced

Plain: TypeAlias = str | int | float | bool | None

# journald accepts 48 KiB per line, but people read these lines; a traceback of about 60 lines fits.
MAX_RECORD_CHARS = 8192
# Texts of a JSON line that are no longer than this are not cut.
_MIN_CUT_CHARS = 64

# sd-daemon(3): a line may begin with its syslog priority.
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class JsonFormatter(logging.Formatter):
    """One JSON object a line, all ASCII: time (ISO 8601, UTC), level, logger, message, request_id, then the fields.

    For systemd's journal, which records the time itself, a line begins with its priority, as `<6>`, and has no time.
    """

    def __init__(self, *, journal: bool, worker: int | None = None) -> None:
        super().__init__()
        self._journal = journal
        self._worker: dict[str, Plain] = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Format a record that `Redactor` has rewritten."""
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Plain] = {} if self._journal else {"time": stamp}
        entry |= {
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", "") or None,
            **self._worker,
        }
        if trace := _trace(record):
            entry["exception"] = trace
        for name, value in getattr(record, "fields", {}).items():
            entry.setdefault(name, value)
        while len(line := json.dumps(entry)) > MAX_RECORD_CHARS:
            texts = {name: value for name, value in entry.items() if isinstance(value, str)}
            longest = max(texts, key=lambda name: len(texts[name]))
            if len(texts[longest]) <= _MIN_CUT_CHARS:
                break
            entry[longest] = _cut(texts[longest], len(texts[longest]) // 2)
        return _priority(record) + line if self._journal else line


class TextFormatter(logging.Formatter):
    """`12:00:01 INFO  message key=value …` in local time; for systemd's journal `<6>INFO  message …`.

    Characters that could control a terminal or forge a line are escaped; a traceback is indented below its line.
    """

    def __init__(self, *, journal: bool, worker: int | None = None) -> None:
        super().__init__()
        self._journal = journal
        self._worker = "" if worker is None else f" worker={worker}"
        self._last_time = 0, ""  # the last second and its text: formatting it is slow

    def format(self, record: logging.LogRecord) -> str:
        """Format a record that `Redactor` has rewritten."""
        bound = getattr(record, "request_id", "")
        fields = ({"request_id": bound} if bound else {}) | getattr(record, "fields", {})
        values = "".join(
            [f" {name}={value if type(value) is int else _quote(value)}" for name, value in fields.items()]
        )
        text = escaped(f"{record.levelname:<5} {record.getMessage()}{values}{self._worker}")
        if trace := _trace(record):
            text = "\n".join([text, *(f"    {escaped(line)}" for line in trace.split("\n") if line)])
        if not self._journal:
            return _cut(f"{self.time_of(int(record.created))} {text}", MAX_RECORD_CHARS)
        return "\n".join(_priority(record) + line for line in _cut(text, MAX_RECORD_CHARS).split("\n"))

    def time_of(self, second: int) -> str:
        """The local time of day of a unix second."""
        if self._last_time[0] != second:
            self._last_time = second, time.strftime("%H:%M:%S", time.localtime(second))
        return self._last_time[1]


def _priority(record: logging.LogRecord) -> str:
    return f"<{_PRIORITY.get(record.levelno, 6)}>"


def _trace(record: logging.LogRecord) -> str:
    return "\n".join(filter(None, (record.exc_text, record.stack_info)))


def _quote(value: Plain) -> str:
    """A value as written after `name=`: quoted if it contains a space, a quote or `=`, or is empty."""
    text = str(value)
    if text and " " not in text and '"' not in text and "=" not in text:
        return text
    return '"' + text.replace('"', '\\"') + '"'


def escaped(text: str) -> str:
    """Escape control characters, bidi marks, line separators and lone surrogates as Python does."""
    return replaced(text, lambda char: char.encode("unicode_escape").decode())


def _cut(text: str, limit: int) -> str:
    """Cut a text to `limit` characters; a quarter of them is for its end, where a traceback names the error."""
    if len(text) <= limit:
        return text
    mark = f" …[{len(text) - limit} more]… "
    tail = limit // 4
    return text[: limit - tail - len(mark)] + mark + text[-tail:]
