"""Starts the daemon while the disk of its state folder is full, then read-only. Prints the exit status of each start.

python tests/attacks/full_disk_start.py     (as root, Linux; the root of the checkout and tests/harness on PYTHONPATH)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from daemon import ROOT


def start(folder: Path) -> str:
    """Start a daemon; return how it ended, or "runs" if it became ready."""
    environ = {**os.environ, "LMARENA_BRIDGE_SERVER__STATE_DIR": str(folder / "state")}
    environ |= {"LMARENA_BRIDGE_SERVER__PORT": "0", "LMARENA_BRIDGE_UPSTREAM__BASE_URL": "http://127.0.0.1:9"}
    words = [sys.executable, "-m", "bridge", "serve", "--config", os.devnull]
    with subprocess.Popen(words, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if "is ready" in line:
                daemon.terminate()
                return "runs"
            if line.startswith("Error"):
                return f"exit {daemon.wait(20)}: {line.strip()}"
        return f"exit {daemon.wait(20)}"


def fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", name], check=True)
        try:
            fill(folder / "full")
            print("full:", start(folder))
            (folder / "full").unlink()
            print("room again:", start(folder))
            fill(folder / "full")
            print("full, with its folder there:", start(folder))
            subprocess.run(["mount", "-o", "remount,ro", name], check=True)
            print("read-only:", start(folder))
        finally:
            subprocess.run(["umount", name], check=True)


if __name__ == "__main__":
    main()
