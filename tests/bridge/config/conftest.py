"""A fixture that runs a test in a folder without a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
