"""A state folder for tests, and a document in it."""

from __future__ import annotations

import os
import posix
from pathlib import Path

import pytest
from word_documents import Words, words_document

from bridge.state.documents import Document, StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    return folder


@pytest.fixture
def words(folder: StateFolder) -> Document[Words]:
    return words_document(folder)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the real fsync: a kill is most likely to hit a write while it waits for the disk."""
    monkeypatch.setattr(os, "fsync", posix.fsync)
