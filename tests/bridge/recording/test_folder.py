"""The folder of recordings: files left by killed commands and daemons are removed an hour later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.recording.folder import STALE_SECONDS, RecordingFiles
from bridge.state.documents import StateFolder

NOW = 1_800_000_000.0
NONCE = "0123456789abcdef"


@pytest.fixture
def files(tmp_path: Path) -> RecordingFiles:
    files = RecordingFiles(StateFolder(tmp_path))
    files.path.mkdir()
    return files


@pytest.mark.parametrize("name", [f"job-{NONCE}.json", f"accepted-{NONCE}", f"result-{NONCE}.json", f".{NONCE}.part"])
@pytest.mark.parametrize("age", [STALE_SECONDS - 1, STALE_SECONDS + 1])
def test_files_of_the_recorder_are_removed_once_they_are_an_hour_old(
    files: RecordingFiles, name: str, age: float
) -> None:
    path = files.path / name
    path.touch()
    os.utime(path, (NOW - age, NOW - age))
    files.remove_stale(NOW)
    assert path.exists() == (age < STALE_SECONDS)


@pytest.mark.parametrize("name", ["notes.txt", f"job-{NONCE}", f"{NONCE}.part", f".{NONCE}.part.old"])
def test_files_that_are_not_the_recorders_are_left_in_place(files: RecordingFiles, name: str) -> None:
    path = files.path / name
    path.touch()
    os.utime(path, (0, 0))
    files.remove_stale(NOW)
    assert path.exists()
