"""The site's memory of evaluations: who owns one, and what its model has been shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upstream.arena.models import Model


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the model sees it."""

    role: str
    content: str
    attachments: tuple[Mapping[str, Any], ...] = ()  # a user's as sent, with `bytes` and `sha256` of what was seen

    def shown(self) -> dict[str, Any]:
        """The message as JSON."""
        return {"role": self.role, "content": self.content, "attachments": list(self.attachments)}


@dataclass(slots=True, eq=False)
class Evaluation:
    """A conversation. An assistant's message joins `messages` only when its answer came to a good end."""

    id: str
    owner: str
    model: Model
    messages: list[Message] = field(default_factory=list)
    answer_id: str = ""  # the message id of the last answer, be it complete or not
    answering: bool = False

    def ask(self, message: Message, answer_id: str) -> None:
        """A new turn."""
        self.messages.append(message)
        self.answer_id, self.answering = answer_id, True

    def ask_again(self) -> None:
        """The last turn once more; its answer is forgotten."""
        if self.messages[-1].role == "assistant":
            self.messages.pop()
        self.answering = True


@dataclass(frozen=True, slots=True)
class Turn:
    """What a model is asked: `messages` is all that it is shown, the last one being the prompt's."""

    model: Model
    evaluation: Evaluation
    messages: tuple[Message, ...]

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content
