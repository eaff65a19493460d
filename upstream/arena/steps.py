"""What an answer is made of, step by step: the words in which models, scripts and faults speak and the server plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson


@dataclass(frozen=True, slots=True)
class Open:
    """Status and headers; the arena itself puts this step before those of a model."""

    status: int
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the stream, `tag:JSON` (`docs/protocol.md`, "The answer: a line stream")."""

    tag: str
    value: object

    def encode(self) -> bytes:
        """The line's bytes with its newline; half an emoji (a lone surrogate) leaves as an escape."""
        try:
            value = orjson.dumps(self.value)
        except TypeError:  # orjson refuses lone surrogates
            value = json.dumps(self.value).encode()
        return b"%s:%s\n" % (self.tag.encode(), value)


#: A sign of life while a picture is drawn.
HEARTBEAT: Final = Line("a2", [{"type": "heartbeat"}])


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes of the body, in a write of their own."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """So many more bytes of the request's body have come; nothing is written."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Unframed:
    """Bytes put on the socket beneath HTTP's own framing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence for so many seconds; 0 gives the reader a turn."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """Silence until the event is set, or the caller leaves."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Eof:
    """End the body in order, here and now."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection (FIN) without ending the body."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Reset the connection (RST)."""


Step: TypeAlias = Open | Line | Raw | Received | Unframed | Pause | Until | Eof | Close | Abort
Flow: TypeAlias = AsyncGenerator[Step, None]


async def flowing(opening: Open, steps: AsyncIterator[Step] | Iterable[Step]) -> Flow:
    """The opening, then the steps of either kind of iterator, which is closed on every way out."""
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
