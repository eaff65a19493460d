"""What an answer is made of: the neutral events that `wire` reads off upstream's lines.

Every answer is a run of batches (lists of events, one batch for what one read held) that ends in
exactly one terminal event, `Finish` or `Failure`, always the last of its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from upstream.protocol.errors import UpstreamError


# The two that come with every read are not frozen, since frozen ones are slower to make.
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
    """One cited page: `offsets` are the places in the answer's text that lean on it."""

    url: str
    title: str | None = None
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Citations:
    """Sources of a search model (`ac:`); the same source comes again with more fields and offsets."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """One generated image: a signed URL, valid for an hour."""

    url: str
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class Images:
    """Generated images (`a2:`)."""

    images: tuple[Image, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """Upstream says that the answer is complete (`ad:`); `reason` is its own word, None where it gave none."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer broke: the model failed (`a3:`), a line could not be read, or the stream ended unfinished."""

    error: UpstreamError


Event: TypeAlias = TextDeltas | ReasoningDeltas | Citations | Images | Finish | Failure
