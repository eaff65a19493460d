"""Programs that some tests need and not every machine has."""

from __future__ import annotations

import shutil

import pytest


def need_program(name: str) -> str:
    """Where the program is; without it the test skips, or fails where no test may (see conftest)."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
