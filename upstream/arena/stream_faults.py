"""How a good answer goes bad: each function takes the steps of an answer and gives back other ones.

`after` counts text deltas, or where there are none, the pieces of a body that goes out or comes in; an answer with
fewer of them is bent just before its finish, and an upload with fewer is kept, but its answer bent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from upstream.arena.steps import (
    HEARTBEAT,
    Abort,
    Close,
    Eof,
    Flow,
    Line,
    Open,
    Pause,
    Raw,
    Received,
    Step,
    Unframed,
    Until,
)
from upstream.arena.written import ARENA_ERROR

_WRITE_BYTES = 65536  # an endless line or body goes out in writes of this size
_PNG = b"\x89PNG\r\n\x1a\n"


# The whole answer


async def before(steps: Flow, *extra: Step) -> Flow:
    """`extra` while not even the headers have gone out."""
    for step in extra:
        yield step
    async for step in steps:
        yield step


def silent(steps: Flow, *, release: asyncio.Event | None = None) -> Flow:
    """Not even headers until `release` is set, or for ever."""
    return before(steps, Until(release or asyncio.Event()))


async def reopened(steps: Flow, change: Callable[[tuple[str, str]], tuple[str, str]], *more: tuple[str, str]) -> Flow:
    """Other headers: each one changed, and `more` added."""
    async for step in steps:
        yield replace(step, headers=(*map(change, step.headers), *more)) if isinstance(step, Open) else step


def retyped(steps: Flow, *, content_type: str = "application/octet-stream") -> Flow:
    """Another content type."""
    return reopened(steps, lambda header: (header[0], content_type) if header[0] == "content-type" else header)


def huge_header(steps: Flow, *, bytes: int = 100_000) -> Flow:  # noqa: A002  parameters are named for who arms them
    """One more header, of so many bytes."""
    return reopened(steps, lambda header: header, ("x-huge", "h" * bytes))


def encoded(steps: Flow, *, coding: str = "br") -> Flow:
    """A content coding that nobody has asked for, of a body that has none."""
    return reopened(steps, lambda header: header, ("content-encoding", coding))


async def replaced(steps: Flow, *extra: Step) -> Flow:
    """The headers, then `extra` in place of the answer."""
    async for step in steps:
        if isinstance(step, Open):
            yield step
            break
    for step in extra:
        yield step


def silent_start(steps: Flow, *, release: asyncio.Event | None = None) -> Flow:
    """Headers, then not one line until `release` is set, or for ever."""
    return inserted(steps, [Until(release or asyncio.Event())], after=0)


async def endless_line(steps: Flow, *, bytes: int = 16 * 1024 * 1024) -> Flow:  # noqa: A002  as above
    """So many bytes of one text delta that never ends."""
    yield await anext(steps)
    yield Raw(b'a0:"')
    for sent in range(0, bytes, _WRITE_BYTES):
        yield Raw(b"x" * min(_WRITE_BYTES, bytes - sent))


async def overflowing(steps: Flow, *, bytes: int, announced: bool) -> Flow:  # noqa: A002  as above
    """So many bytes that begin like a PNG, in place of the body; their number stands in a header if `announced`."""
    more = [("content-length", str(bytes))] if announced else []
    async for step in steps:
        if isinstance(step, Open):
            yield replace(step, headers=(*step.headers, *more))
            break
    yield Raw(_PNG[:bytes])
    for sent in range(len(_PNG), bytes, _WRITE_BYTES):
        yield Raw(b"\0" * min(_WRITE_BYTES, bytes - sent))


def huge_body(steps: Flow, *, bytes: int = 64 * 1024 * 1024) -> Flow:  # noqa: A002  as above
    """A picture of so many bytes, which it announces."""
    return overflowing(steps, bytes=bytes, announced=True)


def endless_body(steps: Flow, *, bytes: int = 1 << 40) -> Flow:  # noqa: A002  as above
    """A picture that goes on and on; nothing tells of its end."""
    return overflowing(steps, bytes=bytes, announced=False)


async def slow(steps: Flow, *, delta_seconds: float = 0.05) -> Flow:
    """`delta_seconds` of silence before each line, or piece of a body."""
    async for step in steps:
        if isinstance(step, Line | Raw | Received):
            yield Pause(delta_seconds)
        yield step


# The middle


async def inserted(steps: Flow, extra: Iterable[Step], *, after: int = 2) -> Flow:
    """`extra` right behind `after` text deltas or pieces; the answer goes on if `extra` lets it."""
    left, due = after, list(extra)
    async for step in steps:
        if _is_line(step, "ad") or (isinstance(step, Open) and left < after):  # the latter answers a whole upload
            while due:
                yield due.pop(0)
        yield step
        left -= _is_line(step, "a0") or isinstance(step, Raw | Received)
        while due and left <= 0:
            yield due.pop(0)
    while due:
        yield due.pop(0)


def silent_middle(steps: Flow, *, after: int = 2, release: asyncio.Event | None = None) -> Flow:
    """Silence until `release` is set, or for ever."""
    return inserted(steps, [Until(release or asyncio.Event())], after=after)


def reset_middle(steps: Flow, *, after: int = 2) -> Flow:
    """A reset of the connection; the reader is first given a turn, for a reset may overtake data."""
    return inserted(steps, [Pause(0.01), Abort()], after=after)


def eof_middle(steps: Flow, *, after: int = 2) -> Flow:
    """A clean end of the body."""
    return inserted(steps, [Eof()], after=after)


def cut_chunked(steps: Flow, *, after: int = 2) -> Flow:
    """A chunk that announces more bytes than come, then the end of the connection."""
    return inserted(steps, [Unframed(b'ff\r\na0:"half'), Close()], after=after)


def model_failed(steps: Flow, *, after: int = 2, message: str = "An error occurred") -> Flow:
    """`a3:`, then the end."""
    return inserted(steps, [Line("a3", message), Eof()], after=after)


def model_failed_object(steps: Flow, *, after: int = 2, message: str = "An error occurred") -> Flow:
    """`a3:` with an object that has a `message`, then the end."""
    return inserted(steps, [Line("a3", {"message": message}), Eof()], after=after)


def model_failed_json(steps: Flow, *, after: int = 2, message: str = "An error occurred") -> Flow:
    """`a3:` with a string that holds JSON, then the end."""
    return inserted(steps, [Line("a3", json.dumps({"error": message})), Eof()], after=after)


def arena_error(steps: Flow, *, after: int = 2) -> Flow:
    """A text delta that is nothing but the site's word for a failure, then the end."""
    return inserted(steps, [Line("a0", ARENA_ERROR), Eof()], after=after)


def heartbeats(steps: Flow, *, count: int = 3, every: float = 0.0, release: asyncio.Event | None = None) -> Flow:
    """So many signs of life, each after `every` seconds of silence; then silence until `release`, if it is given."""
    beats: list[Step] = [Pause(every), HEARTBEAT] * count
    return inserted(steps, beats if release is None else [*beats, Until(release)], after=0)


async def heartbeats_only(steps: Flow, *, every: float = 0.05, release: asyncio.Event | None = None) -> Flow:
    """Headers, then a sign of life every so many seconds until `release` is set or for ever; never any content."""
    yield await anext(steps)
    while release is None or not release.is_set():
        yield HEARTBEAT
        yield Pause(every)


def broken_json(steps: Flow, *, after: int = 2) -> Flow:
    """A text delta whose string does not end; the answer goes on."""
    return inserted(steps, [Raw(b'a0:"unfinished\n')], after=after)


def unknown_tags(steps: Flow, *, after: int = 2) -> Flow:
    """Bookkeeping, a blank line, and tags of which nobody has heard."""
    lines = (
        Line("af", {"messageId": "msg-1"}),
        Line("ae", {"finishReason": "stop", "isContinued": False}),
        Raw(b"\n"),
        Line("ah", {"sourceType": "url", "id": "1", "url": "https://example.org/"}),
        Line("ak", {"data": "aGVsbG8=", "mimeType": "text/plain"}),
        Line("zz", [1, 2, 3]),
        Line("b0", "the other participant"),
    )
    return inserted(steps, lines, after=after)


def unknown_items(steps: Flow, *, after: int = 2) -> Flow:
    """Items of the picture line that are not pictures."""
    items = [
        {"type": "routed_model", "model": "gpt-6.1-high"},
        {"type": "webdev", "url": "https://example.org/"},
        {"type": "never-heard-of"},
    ]
    return inserted(steps, [Line("a2", items)], after=after)


def no_tag_line(steps: Flow, *, after: int = 2) -> Flow:
    """A line that is no `tag:`."""
    return inserted(steps, [Raw(b"this line has no tag\n")], after=after)


def split_emoji(steps: Flow, *, after: int = 2) -> Flow:
    """An emoji whose halves are escapes in two deltas."""
    return inserted(steps, [Line("a0", "\ud83e"), Line("a0", "\udda6")], after=after)


# The end


async def finished(steps: Flow, *lines: Line) -> Flow:
    """`lines` in place of the finish."""
    async for step in steps:
        if _is_line(step, "ad"):
            for line in lines:
                yield line
        else:
            yield step


def finish(reason: str | None) -> Callable[[Flow], Flow]:
    """A finish with that reason, or with none."""
    return lambda steps: finished(steps, Line("ad", {} if reason is None else {"finishReason": reason}))


def double_finish(steps: Flow) -> Flow:
    """Two finishes."""
    return finished(steps, _STOP, _STOP)


def text_after_finish(steps: Flow) -> Flow:
    """Text behind the finish."""
    return finished(steps, _STOP, Line("a0", "too late"))


def empty_answer(steps: Flow) -> Flow:
    """A finish and nothing else."""
    return replaced(steps, _STOP)


def explained_empty(steps: Flow, *, message: str = "The model is overloaded") -> Flow:
    """A finish without any text; the bookkeeping line before it says why."""
    return replaced(steps, Line("ae", {"message": message}), _STOP)


# The bytes of each line


async def rewritten(steps: Flow, write: Callable[[bytes], Iterable[Step]]) -> Flow:
    """Each line as the steps that `write` makes of its bytes."""
    async for step in steps:
        if isinstance(step, Line):
            for written in write(step.encode()):
                yield written
        else:
            yield step


def crlf(steps: Flow) -> Flow:
    """Lines end in CR LF."""
    return rewritten(steps, lambda line: [Raw(line[:-1] + b"\r\n")])


def data_prefix(steps: Flow) -> Flow:
    """Each line begins with `data: `."""
    return rewritten(steps, lambda line: [Raw(b"data: " + line)])


def one_byte_writes(steps: Flow) -> Flow:
    """A write for each byte."""
    return rewritten(steps, lambda line: (Raw(line[at : at + 1]) for at in range(len(line))))


def no_final_newline(steps: Flow) -> Flow:
    """The finish is not ended by a newline."""
    return rewritten(steps, lambda line: [Raw(line.removesuffix(b"\n") if line.startswith(b"ad:") else line)])


_STOP = Line("ad", {"finishReason": "stop"})


def _is_line(step: Step, tag: str) -> bool:
    return isinstance(step, Line) and step.tag == tag
