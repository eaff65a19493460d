"""Finds programs that some tests need but not every machine has."""

from __future__ import annotations

import shutil

import pytest


def need_program(name: str) -> str:
    """The program's path; without it the test is skipped, or fails where skips are forbidden (see conftest)."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
