"""The conversation of a terminal chat, as messages for the API and as a text file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from handlers.commands.chat_client import Message


@dataclass(slots=True)
class Turn:
    """A question with pictures (data URLs), and its answer: '' if there is none, or if it is only pictures."""

    question: str
    pictures: tuple[str, ...] = ()
    answer: str = ""

    def message(self) -> Message:
        """The question in OpenAI's format."""
        if not self.pictures:
            return {"role": "user", "content": self.question}
        parts: list[Any] = [{"type": "text", "text": self.question}]
        parts += [{"type": "image_url", "image_url": {"url": url}} for url in self.pictures]
        return {"role": "user", "content": parts}


@dataclass(slots=True)
class Conversation:
    """The system prompt and the turns so far."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)

    def messages(self, last: Turn) -> Sequence[Message]:
        """The messages for an answer to `last`, which is not among the turns yet; turns without text are left out."""
        said: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            if turn.answer:
                said += [turn.message(), {"role": "assistant", "content": turn.answer}]
        return [*said, last.message()]

    def as_markdown(self) -> str:
        """The whole conversation as Markdown."""
        parts = [f"**System:** {self.system}"] if self.system else []
        for turn in self.turns:
            count = len(turn.pictures)
            pictures = f" (with {count} picture{'s' if count > 1 else ''})" if count else ""
            parts += [f"**You:** {turn.question}{pictures}", turn.answer or "(no text)"]
        return "\n\n".join(parts) + "\n"
