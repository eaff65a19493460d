"""Installs Node.js packages that some tests need into a folder outside the checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from programs import need_program

#: How long npm may take, in seconds.
INSTALL_SECONDS = 90


def install(source: Path, folder: Path) -> Path:
    """Copy the project `source` to the new folder `folder`, and install the packages of its lock file."""
    npm = need_program("npm")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules"))
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, timeout=INSTALL_SECONDS, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder
