"""The steps of an answer, which models, scripts and faults produce, and the server performs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson

_WORD: Final = re.compile(r"\s*\S+\s?|\s+")


@dataclass(frozen=True, slots=True)
class Open:
    """Status and headers; the arena adds this step before those of a model."""

    status: int
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the stream, `tag:JSON` (`docs/protocol.md`, "The answer: a line stream")."""

    tag: str
    value: object

    def encode(self) -> bytes:
        """The line's bytes with its newline; a lone surrogate (half an emoji) is escaped."""
        try:
            value = orjson.dumps(self.value)
        except TypeError:  # orjson refuses lone surrogates
            value = json.dumps(self.value).encode()
        return b"%s:%s\n" % (self.tag.encode(), value)


#: The site's heartbeat while a picture is generated.
HEARTBEAT: Final = Line("a2", [{"type": "heartbeat"}])


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes of the body, in a separate write."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """More bytes of the request's body have arrived; nothing is sent."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Unframed:
    """Bytes sent directly to the socket, bypassing HTTP's framing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause in seconds; 0 lets other tasks run."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """A pause until the event is set, or the caller leaves."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Eof:
    """End the body properly, without further steps."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection (FIN) without ending the body."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Reset the connection (RST)."""


Step: TypeAlias = Open | Line | Raw | Received | Unframed | Pause | Until | Eof | Close | Abort
Flow: TypeAlias = AsyncGenerator[Step, None]


async def flowing(opening: Open, steps: AsyncIterator[Step] | Iterable[Step]) -> Flow:
    """Yield the opening, then the steps of either kind of iterator, which is closed at the end."""
    try:
        yield opening
        if isinstance(steps, AsyncIterable):
            async for step in steps:
                yield step
        else:
            for step in steps:
                yield step
    finally:
        if isinstance(steps, AsyncGenerator):
            await steps.aclose()


def words(text: str) -> list[str]:
    """Split a text into deltas the size of words; joined, they give the text again."""
    return _WORD.findall(text)
