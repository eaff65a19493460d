"""Runs a command on a terminal: types input, and reads what a person sees on the screen."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pyte

#: How long the expected text may take to appear on the screen, in seconds, on a busy machine.
WAIT_SECONDS: Final = 20.0
ENTER: Final = "\r"
ALT_ENTER: Final = "\x1b\r"
CTRL_C: Final = "\x03"
CTRL_D: Final = "\x04"
TAB: Final = "\t"


class Terminal:
    """The terminal of a running command; `written` is everything that the command has written to it."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int, columns: int, rows: int) -> None:
        self.process = process
        self.written = ""
        self._descriptor = descriptor
        self._screen = pyte.HistoryScreen(columns, rows, history=2000)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    @property
    def text(self) -> str:
        """The text on the screen, preceded by the lines that have scrolled off at the top."""
        columns = range(self._screen.columns)
        above = ["".join(line[x].data for x in columns).rstrip() for line in self._screen.history.top]
        return "\n".join((*above, *(line.rstrip() for line in self._screen.display))).rstrip()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    def paste(self, text: str) -> None:
        """Paste a text like a terminal in bracketed paste mode."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    async def sees(self, text: str, times: int = 1) -> None:
        """Wait until the screen shows `text` at least `times` times."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while self.text.count(text) < times:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not seen in:\n{self.text}") from None

    async def ends(self) -> int:
        """Wait until the command has ended; return its exit code."""
        return await asyncio.to_thread(self.process.wait, WAIT_SECONDS)

    def close(self) -> None:
        """Close the terminal and kill the command."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:  # the command has ended
            asyncio.get_running_loop().remove_reader(self._descriptor)
            return
        self.written += data.decode(errors="replace")
        self._stream.feed(data)
        self._changed.set()


@asynccontextmanager
async def terminal(
    words: Sequence[str], environment: Mapping[str, str], *, columns: int = 100, rows: int = 40
) -> AsyncIterator[Terminal]:
    """Run `lmarena-bridge` with these words on a terminal."""
    screen = _run(words, environment, columns, rows)
    try:
        yield screen
    finally:
        screen.close()


def _run(words: Sequence[str], environment: Mapping[str, str], columns: int, rows: int) -> Terminal:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    sent = {**inherited, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=sent,
        start_new_session=True,
        preexec_fn=_as_a_shell_starts_it,
    )
    os.close(theirs)
    return Terminal(process, ours, columns, rows)


def _as_a_shell_starts_it() -> None:
    """Set the controlling terminal, and handle SIGINT by default: background processes inherit it as ignored."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
