"""Writes a bridge.toml for a test and collects the problems found in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bridge.config.file import load
from bridge.config.problems import ConfigError, Problem


def write(text: str) -> Path:
    path = Path("bridge.toml")
    path.write_text(text)
    return path


def problems(text: str, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(write(text), environ or {})
    return caught.value.problems


def complaint(text: str, environ: Mapping[str, str] | None = None) -> str:
    return "\n".join(map(str, problems(text, environ)))
