"""`conversations.json`: the conversations of the last run, if it stopped cleanly."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bridge.answering.conversations import Conversations, Evaluation
from bridge.state.documents import Document, StateFolder
from bridge.state.errors import StateError
from bridge.state.formats import DocumentFormat

#: Room for a hundred thousand conversations, some of which have many digests.
MAX_CONVERSATIONS_BYTES: Final = 256 * 1024 * 1024

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SavedConversations:
    """What `conversations.json` holds. Valid only after a clean stop: otherwise further turns may have been sent."""

    clean: bool = False
    evaluations: tuple[Evaluation, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain values for the state file."""
        return {"clean": self.clean, "evaluations": [each.to_json() for each in self.evaluations]}

    @classmethod
    def from_json(cls, value: object) -> SavedConversations:
        """Read what `to_json` wrote. Raises ValueError."""
        match value:
            case {"clean": bool(clean), "evaluations": list(saved)}:
                return cls(clean, tuple(Evaluation.from_json(each) for each in saved))
        raise ValueError("must have clean and evaluations")


#: `conversations.json`: the saved evaluations, the least recently used first.
CONVERSATIONS: Final = DocumentFormat(
    "conversations",
    1,
    SavedConversations.from_json,
    SavedConversations.to_json,
    SavedConversations(),
    precious=False,
    max_bytes=MAX_CONVERSATIONS_BYTES,
)


def conversations_document(folder: StateFolder) -> Document[SavedConversations]:
    """`conversations.json` of a state folder."""
    return folder.open(CONVERSATIONS)


@asynccontextmanager
async def kept_conversations(folder: StateFolder) -> AsyncIterator[Conversations]:
    """The conversations of the last run if it stopped cleanly; saved again when this run stops cleanly."""
    document = conversations_document(folder)
    saved = await document.load()
    conversations = Conversations()
    if saved.clean:
        conversations.load(saved.evaluations)
    del saved  # or those that are forgotten would stay in memory
    await document.save(SavedConversations())
    yield conversations
    try:
        # Collected in the document's thread: there may be a hundred thousand, and none changes any more.
        await document.update(lambda _: SavedConversations(clean=True, evaluations=tuple(conversations)))
    except StateError as error:  # the next run starts every conversation over: correct, only slower
        _logger.error("conversations could not be saved: %s", error)
