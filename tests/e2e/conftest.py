"""Where the tests of commands run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import CHECKOUT


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a home outside the checkout."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LMARENA_BRIDGE_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT), "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_CONFIG_HOME", "STATE_DIRECTORY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
