"""The site's evaluations: the owner, the messages shown to the model, and the status of each message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from upstream.arena.models import Model

Status: TypeAlias = Literal["success", "pending", "failed", "stopped", "flagged"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message as the model sees it."""

    role: str
    content: str
    attachments: tuple[Mapping[str, Any], ...] = ()  # a user's as sent, plus `bytes` and `sha256` of the file

    def shown(self) -> dict[str, Any]:
        """The message as JSON."""
        return {"role": self.role, "content": self.content, "attachments": list(self.attachments)}


@dataclass(slots=True, eq=False)
class Entry:
    """One message as returned by `GET /api/evaluation/{id}`. A test may change each field.

    While an answer is being sent, `written` returns its text so far.
    """

    id: str
    role: str
    content: str = ""
    model_id: str | None = None  # of an answer
    status: Status = "success"
    failure_reason: str | None = None
    written: Callable[[], str] | None = None

    def shown(self) -> dict[str, Any]:
        """The message as JSON."""
        return {
            "id": self.id,
            "role": self.role,
            "content": self.content if self.written is None else self.written(),
            "modelId": self.model_id,
            "participantPosition": "a",
            "status": self.status,
            "failureReason": self.failure_reason,
        }


@dataclass(slots=True, eq=False)
class Evaluation:
    """A conversation. An assistant's message is added to `messages` only if its answer was completed successfully.

    `entries` has every message with its status; the last entry is always that of the last answer.
    """

    id: str
    owner: str
    model: Model
    messages: list[Message] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    answer_id: str = ""  # the message id of the last answer, even if it is incomplete
    answering: bool = False
    follow_ups: int = 0
    stuck: bool = False  # the site demands a battle, on which only a human can vote

    def ask(self, message: Message, user_message_id: str, answer_id: str) -> None:
        """Begin a new turn."""
        self.follow_ups += bool(self.entries)
        self.messages.append(message)
        self.entries.append(Entry(user_message_id, "user", message.content))
        self.entries.append(Entry(answer_id, "assistant", model_id=self.model.id, status="pending"))
        self.answer_id, self.answering = answer_id, True

    def ask_again(self) -> None:
        """Begin the last turn again, without its answer."""
        if self.messages[-1].role == "assistant":
            self.messages.pop()
        self.entries[-1] = Entry(self.answer_id, "assistant", model_id=self.model.id, status="pending")
        self.answering = True

    def shown(self) -> dict[str, Any]:
        """The conversation as JSON."""
        return {"id": self.id, "messages": [entry.shown() for entry in self.entries]}


@dataclass(frozen=True, slots=True)
class Turn:
    """The input of a model: `messages` is everything that it sees; the last one is the prompt."""

    model: Model
    evaluation: Evaluation
    messages: tuple[Message, ...]

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content
