"""Recordings of drift: what the site sent that this version does not know, kept by themselves.

They are made of what is there anyway, so that nothing is noted of the calls in which all is known: the lines that were
skipped, or the answer whose status or type is not known. What a replay needs around them is made up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from bridge.recording.material import AskedModel, Headers, Material
from upstream.tap import Tape

_MODEL: Final = AskedModel("recorded", "chat", ("text",), ("text",), multiple_images=False)
_REQUEST: Final = b'{"model":"recorded","stream":true,"messages":[{"role":"user","content":"x"}]}'
_PATH: Final = "/nextjs-api/stream/create-evaluation"
_ROOM: Final = 1024 * 1024
#: The longest answer that is kept; a page may be longer.
_MAX_BODY_BYTES: Final = 64 * 1024


def of_lines(kinds: Sequence[str], lines: Sequence[bytes]) -> Material:
    """The recording of an answer in which these lines were skipped, between a delta and the end."""
    stream: Headers = (("content-type", "text/event-stream"),)
    pieces = (b'a0:"x"\n', *(line + b"\n" for line in lines), b'ad:{"finishReason":"stop"}\n')
    return _material(tuple(kinds), "POST", _PATH, 200, stream, pieces)


def of_answer(method: str, path: str, status: int, headers: Headers, body: bytes) -> Material:
    """The recording of an answer of a status, or of a type, that is not known."""
    kind = f"status {status}" if status != 200 else "page"
    return _material((kind,), method, path, status, headers, (body[:_MAX_BODY_BYTES],))


def _material(
    kinds: tuple[str, ...], method: str, path: str, status: int, headers: Headers, pieces: Sequence[bytes]
) -> Material:
    tape = Tape(_ROOM)
    call = tape.begin(method, "", path, {}, None)
    call.status, call.headers, call.end = status, headers, "complete"
    for piece in filter(None, pieces):
        call.track.note(piece)
    return Material(
        request_id="",
        at=time.time(),
        method="POST",
        target="/v1/chat/completions",
        headers=(("Content-Type", "application/json"),),
        tape=tape,
        body=_REQUEST,
        models=(_MODEL,),
        public_names=frozenset((_MODEL.name,)),
        drift=kinds,
    )
