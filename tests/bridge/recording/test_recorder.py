"""Recordings that are made at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from bridge.recording.folder import RecordingFiles
from bridge.recording.material import Material
from bridge.recording.recorder import Recorder
from bridge.state.documents import StateFolder
from upstream.capture import Capture


def call(text: str) -> Material:
    body = orjson.dumps({"messages": [{"role": "user", "content": text}]})
    headers = (("Content-Type", "application/json"),)
    return Material("req", 0.0, "POST", "/v1/chat/completions", headers, Capture(1000), body=body)


async def test_recordings_with_and_without_texts_can_be_made_at_the_same_time(tmp_path: Path) -> None:
    recorder = Recorder(RecordingFiles(StateFolder(tmp_path)), lambda: 0)
    private = call("a private word")
    _, plain, whole = await asyncio.gather(
        recorder.make(call("word " * 200_000)),  # the others wait while this one is made
        recorder.make(private),
        recorder.make(private, texts=True),
    )
    assert (b"private" in plain, b"private" in whole) == (False, True)
