"""The log on a terminal: one readable line for each request, and advice once a minute."""

from __future__ import annotations

import logging
import os
import re
import termios
from collections.abc import Iterator
from functools import partial
from typing import TextIO

import pytest

from bridge import log
from bridge.log import Redactor
from bridge.log_terminal import REQUESTS, TerminalFormatter

requests = logging.getLogger(REQUESTS)
SECRET = "sk-lmab-" + "a" * 32


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """A terminal of 100 columns: the descriptor that reads its output, and the stream that writes to it."""
    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 100))
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


def plain(text: str) -> str:
    return re.sub(r"\033\[\d+m", "", text)


def shown(reader: int) -> str:
    return os.read(reader, 65536).decode().replace("\r\n", "\n")


def test_a_request_is_shown_as_one_readable_line(terminal: tuple[int, TextIO]) -> None:
    reader, stream = terminal
    log.configure("info", "text", stream)
    bound = log.bind_request_id("req_1")
    fields = {"status": 200, "reason": "ok", "key": "editor", "account": "demo", "model": "gpt-6.1", "ms": 1234}
    log.event(requests, logging.INFO, "POST /v1/chat/completions", ttft_ms=300, tokens_in=12, tokens_out=309, **fields)
    log.request_id.reset(bound)
    line = shown(reader)
    assert "\033[32m200 ok" in line
    wanted = (
        r"\d\d:\d\d:\d\d  200 ok +gpt-6\.1  editor → demo  1\.2 s, first after 300 ms  12 → 309 tokens  \(req_1\)\n"
    )
    assert re.fullmatch(wanted, plain(line))


def test_a_failure_shows_advice_at_most_once_a_minute_and_fits_the_width(terminal: tuple[int, TextIO]) -> None:
    clock = [0.0]
    formatter = TerminalFormatter(terminal[1].fileno(), clock=partial(lambda: clock[0]))
    lines = []
    for at in (0.0, 59.0, 61.0):
        clock[0] = at
        record = logging.makeLogRecord({"name": REQUESTS, "msg": "POST /v1/chat/completions"})
        record.fields = {"status": 503, "reason": "recaptcha", "ms": 2, "message": f"the site wants {SECRET} " * 20}
        Redactor().filter(record)
        lines.append(plain(formatter.format(record)).split("\n"))
    assert [len(each) for each in lines] == [2, 1, 2]
    assert "now: wait as long as" in lines[0][1]
    assert all(len(each[0]) <= 100 and "…" in each[0] and SECRET not in each[0] for each in lines)


def test_control_characters_in_fields_and_messages_do_not_reach_the_terminal(terminal: tuple[int, TextIO]) -> None:
    reader, stream = terminal
    log.configure("info", "text", stream)
    steering = "\033[2J\n\x9b31m\u202e"
    log.event(requests, logging.WARNING, "GET /", status=404, reason="rejected", model=steering, message=steering, ms=1)
    log.event(logging.getLogger("bridge.x"), logging.WARNING, f"a{steering}")
    text = ""
    while text.count("\n") < 2:
        text += plain(shown(reader))
    assert text.count("\n") == 2
    assert not set(text) & set("\033\x9b\u202e")


def test_levels_are_coloured_in_text_and_not_in_json(terminal: tuple[int, TextIO]) -> None:
    reader, stream = terminal
    log.configure("info", "text", stream)
    logging.getLogger("bridge.x").error("broken")
    assert "\033[31mERROR\033[0m broken" in shown(reader)
    log.configure("info", "json", stream)
    logging.getLogger("bridge.x").error("broken")
    assert "\033" not in shown(reader)
