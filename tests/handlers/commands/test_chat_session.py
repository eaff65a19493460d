"""The conversation of `chat`, in which Ctrl-C may come at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers.commands.chat_client import AnswerStream, Bridge, ListedModel
from handlers.commands.chat_prompt import Prompt
from handlers.commands.chat_screen import Screen, Shown
from handlers.commands.chat_session import converse


def test_an_interrupted_retry_keeps_the_previous_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    kept = tmp_path / "chat.md"
    lines: Iterator[str | None] = iter(["Who are you?", "/retry", f"/save {kept}", None])
    answers = iter([Shown("I am a heron.")])

    def show(_: Screen, __: AnswerStream) -> Shown:
        for shown in answers:
            return shown
        raise KeyboardInterrupt  # between the end of an answer and the line about it

    monkeypatch.setattr(Prompt, "read", lambda *_: next(lines))
    monkeypatch.setattr(Screen, "show", show)
    converse(Bridge("http://127.0.0.1:1/v1", "k"), ListedModel("m", draws=False), ())
    assert "I am a heron." in kept.read_text()
