"""Faults within answers: each function takes the steps of an answer and returns changed ones.

`after` counts text deltas or, without any, the pieces of a body that is sent or received. An answer with fewer is
changed just before its finish; an upload with fewer is stored, but its answer is changed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from upstream.arena.recording import ARENA_ERROR
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

_WRITE_BYTES = 65536  # an endless line or body is sent in writes of this size
_PNG = b"\x89PNG\r\n\x1a\n"


# The whole answer


async def before(steps: Flow, *extra: Step) -> Flow:
    """`extra` before the headers."""
    for step in extra:
        yield step
    async for step in steps:
        yield step


def silent(steps: Flow, *, release: asyncio.Event | None = None) -> Flow:
    """No headers until `release` is set, or forever."""
    return before(steps, Until(release or asyncio.Event()))


async def with_headers(
    steps: Flow, change: Callable[[tuple[str, str]], tuple[str, str]], *more: tuple[str, str]
) -> Flow:
    """Each header changed, and `more` added."""
    async for step in steps:
        yield replace(step, headers=(*map(change, step.headers), *more)) if isinstance(step, Open) else step


def retyped(steps: Flow, *, content_type: str = "application/octet-stream") -> Flow:
    """A different content type."""
    return with_headers(steps, lambda header: (header[0], content_type) if header[0] == "content-type" else header)


def huge_header(steps: Flow, *, bytes: int = 100_000) -> Flow:  # noqa: A002  a parameter of the control API
    """An additional header of this many bytes."""
    return with_headers(steps, lambda header: header, ("x-huge", "h" * bytes))


def encoded(steps: Flow, *, coding: str = "br") -> Flow:
    """A header with a content coding that was not requested, although the body has none."""
    return with_headers(steps, lambda header: header, ("content-encoding", coding))


async def replaced(steps: Flow, *extra: Step) -> Flow:
    """The headers, then `extra` instead of the answer."""
    async for step in steps:
        if isinstance(step, Open):
            yield step
            break
    for step in extra:
        yield step


def silent_start(steps: Flow, *, release: asyncio.Event | None = None) -> Flow:
    """The headers, then nothing until `release` is set, or forever."""
    return inserted(steps, [Until(release or asyncio.Event())], after=0)


async def endless_line(steps: Flow, *, bytes: int = 16 * 1024 * 1024) -> Flow:  # noqa: A002  as above
    """A text delta of this many bytes that does not end."""
    yield await anext(steps)
    yield Raw(b'a0:"')
    for sent in range(0, bytes, _WRITE_BYTES):
        yield Raw(b"x" * min(_WRITE_BYTES, bytes - sent))


async def overflowing(steps: Flow, *, bytes: int, announced: bool) -> Flow:  # noqa: A002  as above
    """A body of this many bytes that begins like a PNG; with a `content-length` header if `announced`."""
    more = [("content-length", str(bytes))] if announced else []
    async for step in steps:
        if isinstance(step, Open):
            yield replace(step, headers=(*step.headers, *more))
            break
    yield Raw(_PNG[:bytes])
    for sent in range(len(_PNG), bytes, _WRITE_BYTES):
        yield Raw(b"\0" * min(_WRITE_BYTES, bytes - sent))


def huge_body(steps: Flow, *, bytes: int = 64 * 1024 * 1024) -> Flow:  # noqa: A002  as above
    """A picture of this many bytes, with a `content-length` header."""
    return overflowing(steps, bytes=bytes, announced=True)


def endless_body(steps: Flow, *, bytes: int = 1 << 40) -> Flow:  # noqa: A002  as above
    """A picture of unannounced, practically endless length."""
    return overflowing(steps, bytes=bytes, announced=False)


async def slow(steps: Flow, *, delta_seconds: float = 0.05) -> Flow:
    """A pause of `delta_seconds` before each line, or piece of a body."""
    async for step in steps:
        if isinstance(step, Line | Raw | Received):
            yield Pause(delta_seconds)
        yield step


# The middle


async def inserted(steps: Flow, extra: Iterable[Step], *, after: int = 2) -> Flow:
    """`extra` immediately after `after` text deltas or pieces; the answer continues unless `extra` ends it."""
    left, due = after, list(extra)
    async for step in steps:
        if _is_line(step, "ad") or (isinstance(step, Open) and left < after):  # `Open` comes at the end of an upload
            while due:
                yield due.pop(0)
        yield step
        left -= _is_line(step, "a0") or isinstance(step, Raw | Received)
        while due and left <= 0:
            yield due.pop(0)
    while due:
        yield due.pop(0)


def silent_middle(steps: Flow, *, after: int = 2, release: asyncio.Event | None = None) -> Flow:
    """A pause until `release` is set, or forever."""
    return inserted(steps, [Until(release or asyncio.Event())], after=after)


def reset_middle(steps: Flow, *, after: int = 2) -> Flow:
    """A reset of the connection; the reader gets to run first, since a reset may overtake data."""
    return inserted(steps, [Pause(0.01), Abort()], after=after)


def eof_middle(steps: Flow, *, after: int = 2) -> Flow:
    """A proper end of the body."""
    return inserted(steps, [Eof()], after=after)


def cut_chunked(steps: Flow, *, after: int = 2) -> Flow:
    """A chunk shorter than its announced size, then the end of the connection."""
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
    """A text delta that consists of the site's word for a failure, then the end."""
    return inserted(steps, [Line("a0", ARENA_ERROR), Eof()], after=after)


def heartbeats(steps: Flow, *, count: int = 3, every: float = 0.0, release: asyncio.Event | None = None) -> Flow:
    """`count` heartbeats, each after a pause of `every` seconds; then a pause until `release`, if given."""
    beats: list[Step] = [Pause(every), HEARTBEAT] * count
    return inserted(steps, beats if release is None else [*beats, Until(release)], after=0)


async def heartbeats_only(steps: Flow, *, every: float = 0.05, release: asyncio.Event | None = None) -> Flow:
    """Headers, then a heartbeat every `every` seconds until `release` is set, or forever; no content."""
    yield await anext(steps)
    while release is None or not release.is_set():
        yield HEARTBEAT
        yield Pause(every)


def broken_json(steps: Flow, *, after: int = 2) -> Flow:
    """A text delta with an unterminated string; the answer continues."""
    return inserted(steps, [Raw(b'a0:"unfinished\n')], after=after)


def unknown_tags(steps: Flow, *, after: int = 2) -> Flow:
    """Bookkeeping, a blank line, and unknown tags."""
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
    """A line without a tag."""
    return inserted(steps, [Raw(b"this line has no tag\n")], after=after)


def split_emoji(steps: Flow, *, after: int = 2) -> Flow:
    """An emoji whose surrogates are escapes in two deltas."""
    return inserted(steps, [Line("a0", "\ud83e"), Line("a0", "\udda6")], after=after)


# The end


async def finished(steps: Flow, *lines: Line) -> Flow:
    """`lines` instead of the finish."""
    async for step in steps:
        if _is_line(step, "ad"):
            for line in lines:
                yield line
        else:
            yield step


def finish(reason: str | None) -> Callable[[Flow], Flow]:
    """A finish with this reason, or without one."""
    return lambda steps: finished(steps, Line("ad", {} if reason is None else {"finishReason": reason}))


def double_finish(steps: Flow) -> Flow:
    """Two finishes."""
    return finished(steps, _STOP, _STOP)


def text_after_finish(steps: Flow) -> Flow:
    """Text after the finish."""
    return finished(steps, _STOP, Line("a0", "too late"))


def empty_answer(steps: Flow) -> Flow:
    """A finish and nothing else."""
    return replaced(steps, _STOP)


def explained_empty(steps: Flow, *, message: str = "The model is overloaded") -> Flow:
    """A finish without any text, after a bookkeeping line with the reason."""
    return replaced(steps, Line("ae", {"message": message}), _STOP)


# The bytes of each line


async def rewritten(steps: Flow, write: Callable[[bytes], Iterable[Step]]) -> Flow:
    """Each line replaced by the steps that `write` makes from its bytes."""
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
    """Each byte in a separate write."""
    return rewritten(steps, lambda line: (Raw(line[at : at + 1]) for at in range(len(line))))


def no_final_newline(steps: Flow) -> Flow:
    """The finish has no newline."""
    return rewritten(steps, lambda line: [Raw(line.removesuffix(b"\n") if line.startswith(b"ad:") else line)])


_STOP = Line("ad", {"finishReason": "stop"})


def _is_line(step: Step, tag: str) -> bool:
    return isinstance(step, Line) and step.tag == tag
