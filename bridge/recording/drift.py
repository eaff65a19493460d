"""Recordings of drift, which are made automatically: of what the site sent that this version does not know.

They hold only what is at hand when drift is noticed (the lines that were skipped, or the answer of unknown status or
type), so that calls without drift cost nothing. What else a replay needs is made up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from bridge.recording.material import AskedModel, Headers, Material
from upstream.capture import Capture

_MODEL: Final = AskedModel("recorded", "chat", ("text",), ("text",), multiple_images=False)
_REQUEST: Final = b'{"model":"recorded","stream":true,"messages":[{"role":"user","content":"x"}]}'
_PATH: Final = "/nextjs-api/stream/create-evaluation"
_MAX_CALL_BYTES: Final = 1024 * 1024
#: How much of an answer is kept.
_MAX_BODY_BYTES: Final = 64 * 1024


def of_lines(kinds: Sequence[str], lines: Sequence[bytes]) -> Material:
    """A call whose answer has these lines, which were skipped, between a delta and the end."""
    stream: Headers = (("content-type", "text/event-stream"),)
    pieces = (b'a0:"x"\n', *(line + b"\n" for line in lines), b'ad:{"finishReason":"stop"}\n')
    return _material(tuple(kinds), "POST", _PATH, 200, stream, pieces)


def of_answer(method: str, path: str, status: int, headers: Headers, body: bytes) -> Material:
    """A call whose answer has an unknown status or type."""
    kind = f"status {status}" if status != 200 else "page"
    return _material((kind,), method, path, status, headers, (body[:_MAX_BODY_BYTES],))


def _material(
    kinds: tuple[str, ...], method: str, path: str, status: int, headers: Headers, pieces: Sequence[bytes]
) -> Material:
    capture = Capture(_MAX_CALL_BYTES)
    call = capture.begin(method, "", path, {}, None)
    call.status, call.headers, call.end = status, headers, "complete"
    for piece in filter(None, pieces):
        call.body.add(piece)
    return Material(
        request_id="",
        at=time.time(),
        method="POST",
        target="/v1/chat/completions",
        headers=(("Content-Type", "application/json"),),
        capture=capture,
        body=_REQUEST,
        models=(_MODEL,),
        public_names=frozenset((_MODEL.name,)),
        drift=kinds,
    )
