"""Logging: text or JSON lines on stderr, with the request id and without secrets.

One handler on the root logger handles every logger's records, including aiohttp's. Its filter rewrites each record
before a formatter sees it, so that nothing bypasses the redaction.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Literal, TextIO

from bridge.log_lines import JsonFormatter, Plain, TextFormatter
from bridge.log_writer import Writer

#: Types whose values are always plain.
_PLAIN_TYPES = frozenset((str, int, bool))

_logger = logging.getLogger(__name__)

request_id: ContextVar[str] = ContextVar("request_id", default="")

# The label before a secret stays readable and says what was hidden; secrets with a typical form need no label.
_SECRET = re.compile(
    r"""
    (?P<label> (?i: \b bearer (?: \s | %20 )+
                  | (?: arena-auth-prod-v1 (?: \.\d+ )? | cf_clearance ) ["']? \s* [=:,] \s* (?: b? ["'] )? ) )
        (?! \[secret: ) [^\s"';,]+
  | (?P<parameter> (?i: x-amz- (?: signature | credential | security-token ) ["']? \s* (?: [=:,] | %3d ) \s* ["']? ) )
        (?! \[secret: ) [^\s"'<>&,]+
  | sk-lmab- [\w-]*
  | (?<! [A-Za-z0-9] ) sk- [\w-]{16,}
  | base64- [\w+/=%-]{16,}
  | eyJ [\w-]{8,} (?: \. [\w-]* )*
    """,
    re.VERBOSE,
)

# Each such secret contains one of these, in lower case. Most lines contain none, and skip the slow pattern.
_MARKS = ("bearer", "arena-auth-prod-v1", "cf_clearance", "x-amz-", "sk-", "base64-", "eyj")


def configure(
    level: str,
    format: Literal["text", "json"],  # noqa: A002 - named as in the configuration
    stream: TextIO | None = None,
    *,
    threaded: bool = False,
    worker: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Log records of `level` and above to `stream` (stderr). A second call replaces what the first set up.

    With `threaded`, a thread writes, so that logging never waits for the stream's reader; lines beyond a limit are
    dropped and counted. `worker` is the number of a process that shares the stream with others: it is in each line, and
    each write has whole lines only. Call `flush` at the end. Raises ValueError for an unknown level.
    """
    stream = stream or sys.stderr
    journal = _is_journal(stream, environ)
    formatter = _formatter(format, stream, journal=journal, worker=worker)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # not in the lines: saves look-ups
    root = logging.getLogger()
    root.setLevel(level.upper())
    handler = next(iter(_bridge_handlers()), None)
    if handler is None or handler.stream is not stream or handler.threaded != threaded:
        for old in _bridge_handlers():
            root.removeHandler(old)
            old.flush()
            old.close()
        handler = _Handler(stream, threaded=threaded, shared=worker is not None)
        handler.addFilter(Redactor())
        root.addHandler(handler)
    handler.setFormatter(formatter)  # an existing handler is kept, so that lines stay in order
    if threaded:  # Python's own messages go to the log
        logging.captureWarnings(capture=True)
        sys.unraisablehook = _log_unraisable


def _formatter(
    format: Literal["text", "json"],  # noqa: A002 - named as in the configuration
    stream: TextIO,
    *,
    journal: bool,
    worker: int | None,
) -> logging.Formatter:
    if format == "json":
        return JsonFormatter(journal=journal, worker=worker)
    descriptor = _descriptor(stream)
    if journal or descriptor is None or not os.isatty(descriptor):
        return TextFormatter(journal=journal, worker=worker)
    from bridge.log_terminal import TerminalFormatter  # only on a terminal

    return TerminalFormatter(descriptor, worker=worker)


def flush() -> None:
    """Wait until all lines are written, while the stream's reader makes progress."""
    for handler in _bridge_handlers():
        handler.flush()


def _bridge_handlers() -> list[_Handler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, _Handler)]


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Log an exception that could not be raised, such as one in `__del__`."""
    error = unraisable.exc_value
    what = unraisable.err_msg or "Exception ignored in"
    _logger.error("%s: %r", what, unraisable.object, exc_info=error)


def bind_request_id(value: str) -> Token[str]:
    """Add `value` to every line that is logged in this context and by tasks started from it."""
    return request_id.set(value)


def event(logger: logging.Logger, level: int, message: str, /, **fields: object) -> None:
    """Log `message` with named values; values other than str, int, float, bool and None are logged as str()."""
    if logger.isEnabledFor(level):
        logger.handle(_Event(logger.name, level, message, fields))


class _Event(logging.LogRecord):
    """A record without its place in the code, which is slow to find and not in the lines."""

    _blank = vars(logging.LogRecord("", 0, "", 0, "", None, None))

    def __init__(self, name: str, level: int, message: str, fields: dict[str, object]) -> None:
        level_name = logging.getLevelName(level)
        self.__dict__.update(
            self._blank, name=name, levelno=level, levelname=level_name, msg=message, created=time.time(), fields=fields
        )


def redact(text: str) -> str:
    """`text` with each secret replaced by `[secret:<length>]`; idempotent."""
    return _SECRET.sub(_marker, text) if _may_hold_secret(text) else text


def _may_hold_secret(text: str) -> bool:
    return any(map(text.lower().__contains__, _MARKS))


def _marker(match: re.Match[str]) -> str:
    label = match["label"] or match["parameter"] or ""
    return f"{label}[secret:{len(match[0]) - len(label)}]"


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):  # not a file, closed, or None
        return None


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the service manager has connected this stream to its journal: systemd.exec(5)."""
    descriptor = _descriptor(stream)
    if descriptor is None:
        return False
    status = os.fstat(descriptor)
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Handler(logging.StreamHandler[TextIO]):
    """The bridge's handler; its class distinguishes it from other handlers."""

    def __init__(self, stream: TextIO, *, threaded: bool, shared: bool) -> None:
        super().__init__(stream)
        descriptor = _descriptor(stream) if threaded else None
        self.threaded = threaded
        self._writer = None if descriptor is None else Writer(descriptor, shared=shared)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as StreamHandler does, but in one call."""
        try:
            if self._writer is not None:
                self._writer.write(lambda: self._encoded(record), self._lost)
                return
            self.stream.write(self.format(record) + "\n")
            self.stream.flush()
        except Exception:  # noqa: BLE001 — as in StreamHandler: a failing log must not affect the caller
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all lines are written, while the stream's reader makes progress."""
        if self._writer is not None:
            self._writer.flush(self._lost)
        else:
            with suppress(OSError):  # a command must not end with a traceback
                super().flush()

    def close(self) -> None:
        """Stop the thread once it has written the pending lines."""
        if self._writer is not None:
            self._writer.close()
        logging.Handler.close(self)  # StreamHandler.close would flush again

    def _encoded(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(self.stream.encoding or "utf-8", "backslashreplace")

    def _lost(self, lines: int) -> bytes:
        fields: dict[str, object] = {"lines": lines}
        record = _Event(__name__, logging.WARNING, "lines of the log are missing here: its reader was too slow", fields)
        return self._encoded(record)


class Redactor(logging.Filter):
    """Converts a record to plain, redacted text: message, exception, stack, fields and request id.

    The record itself is changed, so that later handlers see no secrets either.
    """

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record`; always true."""
        message = _message(record)
        fields = getattr(record, "fields", {})
        if not _PLAIN_TYPES.issuperset(map(type, fields.values())):
            fields = {name: _plain(value) for name, value in fields.items()}
        bound = request_id.get()
        # A value is redacted together with its name, which may be the label of a secret.
        if _may_hold_secret(f"{message} {bound} {fields}"):
            message, bound = redact(message), redact(bound)
            fields = {name: _redacted(name, value) for name, value in fields.items()}
        record.msg, record.args = message, None
        record.fields, record.request_id = fields, bound
        if record.exc_info and record.exc_info[1] is not None:
            if record.name == "aiohttp.server" and (cause := _parse_error(record.exc_info[1])):
                # Its message and traceback quote the offending bytes, which may contain a whole key.
                record.msg, record.exc_text = f"{record.msg}: {cause}", None
            else:
                record.exc_text = self._formatter.formatException(record.exc_info)
        record.exc_info = None
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # Otherwise logging would print the raw arguments, unfiltered.
        return f"{record.msg} (its arguments do not fit)"


def _parse_error(error: BaseException | None) -> str | None:
    """The name of aiohttp's parse error in a chain of exceptions; found by name, to import no HTTP library."""
    while error is not None:
        if any(cls.__name__ == "BadHttpMessage" for cls in type(error).__mro__):
            return type(error).__name__
        error = error.__cause__ or error.__context__
    return None


def _plain(value: object) -> Plain:
    if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _redacted(name: str, value: Plain) -> Plain:
    return redact(f"{name}={value}").removeprefix(f"{name}=") if isinstance(value, str) else value
