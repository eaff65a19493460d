"""Unknown data from the site is recorded automatically, once per kind and without texts, and can be replayed."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import RunningBridge, running_bridge

from bridge.recording.document import decode
from bridge.recording.drift import of_lines
from bridge.recording.folder import MAX_DRIFT, RecordingFiles
from bridge.recording.recorder import file_of
from bridge.state.documents import StateFolder
from handlers.commands.replay import differences_of
from handlers.commands.replaying import play
from handlers.request.recording import RECORDER
from upstream.arena import Arena


async def ask(bridge: RunningBridge) -> None:
    async with await bridge.post(bridge.chat("/say kumquat and Zanzibar", stream=True)) as answer:
        await answer.read()


@pytest.mark.parametrize(
    ("fault", "parameters", "kind"),
    [("unknown_tags", {}, "tag zz"), ("client_error", {"status": 418, "message": "kumquat"}, "status 418")],
)
async def test_drift_is_recorded_automatically_and_can_be_replayed(
    fault: str, parameters: dict[str, object], kind: str, tmp_path: Path
) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path) as bridge:
        for _ in range(2):
            arena.faults.arm(fault, **parameters)  # type: ignore[arg-type]
            await ask(bridge)
        await bridge.app[RECORDER].write_drift()
        (path,) = RecordingFiles(bridge.folder).drift()
        file = path.read_bytes()
    assert b"kumquat" not in file
    recording = decode(file)
    assert kind in recording.drift
    played = await play(recording)
    assert differences_of(recording, played) == []
    assert played.drift >= set(recording.drift)


async def test_answers_without_drift_are_not_recorded(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path) as bridge:
        await ask(bridge)
        await bridge.app[RECORDER].write_drift()
        assert not (bridge.folder.path / "drift").exists()


def test_only_the_latest_drift_recordings_are_kept(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.prepare()
    files = RecordingFiles(folder)
    (files.path.parent / "drift").mkdir()
    (files.path.parent / "drift" / "mine.txt").touch()
    kept = [files.keep_drift(file_of(of_lines([f"tag z{at}"], [b"zz:1"])), 1796000000.0 + at) for at in range(25)]
    assert files.drift() == list(reversed(kept))[:MAX_DRIFT]
    assert (files.path.parent / "drift" / "mine.txt").exists()
