"""The log as people read it on a terminal: each request is one coloured line, and failures come with advice.

11:04:09  200 ok           gpt-6.1-mini  editor → demo  1.2 s, first after 0.3 s, 12 → 309 tokens  (req_1520…)
11:04:11  503 recaptcha    gpt-6.1-mini  editor → demo  2 ms  the site wants a human …  (req_1521…)
          now: wait as long as the error says or the account's cooldown lasts, or add another account; …
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from bridge.diagnosis import ADVICE
from bridge.log_lines import Plain, TextFormatter, escaped
from upstream.protocol.errors import Reason

#: The name of the logger of ended requests (`handlers.request.request_log`).
REQUESTS: Final = "bridge.requests"
#: The shortest time before the same advice is repeated, in seconds.
ADVICE_SECONDS: Final = 60.0

_RED: Final = "\033[31m"
_GREEN: Final = "\033[32m"
_YELLOW: Final = "\033[33m"
_DIM: Final = "\033[2m"
_END: Final = "\033[0m"
_COLOURS: Final = {logging.WARNING: _YELLOW, logging.ERROR: _RED, logging.CRITICAL: _RED, logging.DEBUG: _DIM}
_INDENT: Final = " " * 10
#: The width of a terminal that does not report its own.
_COLUMNS: Final = 120
#: At least this much of a message is shown, however narrow the terminal is.
_LEAST_CHARS: Final = 20


class TerminalFormatter(TextFormatter):
    """Formats for the terminal with this file descriptor. `clock` is monotonic, in seconds."""

    def __init__(
        self, descriptor: int, *, worker: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(journal=False, worker=worker)
        self._descriptor = descriptor
        self._clock = clock
        self._advised: dict[str, float] = {}

    def format(self, record: logging.LogRecord) -> str:
        """Format a record that `Redactor` has rewritten."""
        fields: Mapping[str, Plain] = getattr(record, "fields", {})
        status = fields.get("status")
        if record.name == REQUESTS and isinstance(status, int):
            return self._request(record, fields, status)
        text = super().format(record)
        colour = _COLOURS.get(record.levelno)
        if colour is None:
            return text
        return text.replace(record.levelname, f"{colour}{record.levelname}{_END}", 1)

    def _request(self, record: logging.LogRecord, fields: Mapping[str, Plain], status: int) -> str:
        reason = str(fields.get("reason", ""))
        colour = _GREEN if status < 400 and reason == Reason.OK else _RED if status >= 500 else _YELLOW
        subject = fields.get("model") or record.getMessage()
        parts = [str(subject), _route(fields), _times(fields), _tokens(fields)]
        shown = "  ".join(escaped(part) for part in parts if part)
        tail = f"  ({escaped(str(getattr(record, 'request_id', '')))})"
        head = f"{self.time_of(int(record.created))}  "
        word = f"{status} {reason:<13}"
        message = escaped(str(fields.get("message") or ""))
        if message:
            room = self._columns() - len(head + word + shown + tail) - 2
            message = f"  {_shortened(message, max(room, _LEAST_CHARS))}"
        line = f"{head}{colour}{word}{_END}{shown}{message}{_DIM}{tail}{_END}"
        advice = self._advice(reason, status)
        return f"{line}\n{_INDENT}{_DIM}now: {advice}{_END}" if advice else line

    def _advice(self, reason: str, status: int) -> str:
        """What to do about a failure; '' if there is no need, or the log has said it a moment ago."""
        now = self._clock()
        if status < 500 or now < self._advised.get(reason, -ADVICE_SECONDS) + ADVICE_SECONDS:
            return ""
        self._advised[reason] = now
        return next((advice.now for word, advice in ADVICE.items() if word == reason), "")

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._descriptor).columns or _COLUMNS
        except OSError:  # the terminal is gone
            return _COLUMNS


def _route(fields: Mapping[str, Plain]) -> str:
    """The key of a request, and the account that answered it."""
    return " → ".join(str(fields[name]) for name in ("key", "account") if fields.get(name))


def _times(fields: Mapping[str, Plain]) -> str:
    first = fields.get("ttft_ms")
    whole = _seconds(fields.get("ms"))
    return whole if first is None else f"{whole}, first after {_seconds(first)}"


def _seconds(milliseconds: Plain) -> str:
    if not isinstance(milliseconds, int):
        return ""
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def _tokens(fields: Mapping[str, Plain]) -> str:
    return f"{fields['tokens_in']} → {fields['tokens_out']} tokens" if fields.get("tokens_out") else ""


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
