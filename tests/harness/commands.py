"""Runs commands of the bridge in this process, in a thread or as separate processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from handlers.commands.main import main

#: The time limit of any process on a busy machine, in seconds.
SECONDS = 60.0
CHECKOUT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "bridge"]


def run(*words: str, stdin: str = "", **env: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, words, input=stdin, env=env)


async def arun(*words: str, stdin: str = "", **env: str) -> Result:
    """Run a command in a thread, so that the event loop stays free for the arena or a bridge."""
    return await asyncio.to_thread(run, *words, stdin=stdin, **env)


async def spawn(*words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a separate process."""

    def process() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words], input=stdin, env={**os.environ, **env}, capture_output=True, text=True, timeout=SECONDS
        )

    return await asyncio.to_thread(process)


def stored(name: str) -> list[dict[str, Any]]:
    """The keys or accounts in the state folder, by the document's name."""
    values: list[dict[str, Any]] = json.loads(Path(f"state/{name}.json").read_text())[name]
    return values
