"""The real, timed question of `check --chat`, which goes through the running daemon as a client's request does."""

from __future__ import annotations

import time
from typing import Final

import click

from handlers.commands.chat_client import Bridge
from handlers.commands.check_lines import CheckLine, Verdict

QUESTION: Final = "Answer with one word: are you there?"
#: The maximum length of the part of the answer that is shown.
_SHOWN_CHARS: Final = 60


def chat_line(bridge: Bridge) -> CheckLine:
    """Ask the first chat model. Blocks for as long as the bridge itself waits for an answer."""
    try:
        model = next((each.name for each in bridge.models() if not each.draws), None)
        if model is None:
            return CheckLine(Verdict.BAD, "chat", f"{bridge.base_url} lists no chat model for this key")
        begun = time.monotonic()
        first: float | None = None
        text = ""
        with bridge.answer(model, [{"role": "user", "content": QUESTION}]) as asked:
            for delta in asked:
                if first is None:
                    first = time.monotonic() - begun
                text += delta.text
        whole = time.monotonic() - begun
    except click.ClickException as error:
        return CheckLine(Verdict.BAD, "chat", error.message)
    said = " ".join(text.split())
    said = said if len(said) <= _SHOWN_CHARS else f"{said[:_SHOWN_CHARS]}…"
    times = f"{whole:.1f} s" if first is None else f"{whole:.1f} s, the first token after {first:.1f} s"
    return CheckLine(Verdict.GOOD, "chat", f"{model} answered in {times}: {said}")
