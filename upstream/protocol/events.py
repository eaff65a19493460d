"""The events of an answer, which `wire` parses from upstream's lines.

Every answer is a sequence of batches (lists of events, one for each read from the socket) and ends with exactly one
terminal event, `Finish` or `Failure`, which is the last of its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from upstream.protocol.errors import UpstreamError


# The two most frequent events are not frozen, since frozen dataclasses are slower to create.
@dataclass(slots=True)
class TextDeltas:
    """A run of one or more deltas of the answer's text (`a0:`), in order.

    `text` is the deltas' text, joined. `json` holds each delta as one JSON string literal (UTF-8), separated by
    newlines, so that a dialect can splice them into its chunks without decoding and encoding each of them.
    """

    text: str
    json: bytes


@dataclass(slots=True)
class ReasoningDeltas:
    """A run of deltas of the model's reasoning (`ag:`); the fields are those of `TextDeltas`."""

    text: str
    json: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """One cited page; `offsets` are the positions in the answer's text that cite it."""

    url: str
    title: str | None = None
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Citations:
    """Sources of a search model (`ac:`); a source may be repeated with more fields and offsets."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Images:
    """Generated images (`a2:`): signed URLs, valid for an hour."""

    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is complete (`ad:`); `reason` is upstream's word for it, None without one."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer failed: the model did (`a3:`), a line could not be parsed, or the stream ended early."""

    error: UpstreamError


Event: TypeAlias = TextDeltas | ReasoningDeltas | Citations | Images | Finish | Failure
