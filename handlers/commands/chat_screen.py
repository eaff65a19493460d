"""An answer on a terminal while it comes: a spinner, thoughts, Markdown, and a last line about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Self, TypeVar

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text
from rich.theme import Theme

from handlers.commands.chat_client import AnswerStream
from handlers.commands.chat_markdown import looks, settled
from upstream.protocol.printable import readable

T = TypeVar("T")

_REFRESHES_PER_SECOND: Final = 8
#: Lines of thoughts that are seen while a model thinks.
_THOUGHT_LINES: Final = 6
#: rich's own are meant for dark terminals.
_STYLES: Final = Theme({"markdown.code": "cyan", "markdown.h1": "bold underline", "markdown.h2": "bold"})


class Shown(NamedTuple):
    """What was shown of an answer; `error` where it broke off, which is an empty text for one that was stopped."""

    text: str
    error: str | None = None


class Screen:
    """Writes answers to a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(theme=_STYLES, markup=False, highlight=False, emoji=False)

    def say(self, text: str, style: str = "") -> None:
        """Write one line or more, without control characters."""
        self.console.print(Text(readable(text)), style=style or None)

    def wait(self, work: Callable[[], T]) -> T:
        """Show a spinner while `work` runs."""
        with _Drawing(self.console, _Waiting()):
            return work()

    def show(self, asked: AnswerStream) -> Shown:
        """Show an answer while it comes, until its end, an error, or Ctrl-C."""
        began = time.monotonic()
        page = _Page(self.console)
        error: str | None = None
        with asked, _Drawing(self.console, page) as drawing:
            try:
                for delta in asked:
                    with drawing.lock:
                        page.think(delta.thought)
                        page.write(delta.text)
            except KeyboardInterrupt:
                error = ""
            except click.ClickException as failed:
                error = failed.message
            with drawing.lock:
                page.finish()
        if error is None:
            self.say(_about(asked, time.monotonic() - began), "dim")
        elif not error:
            self.say("stopped", "dim")
        return Shown(page.text, error)


class _Drawing:
    """Draws something again and again in a thread, until the context ends; whoever prints meanwhile holds the `lock`.

    Live's own thread has no lock in common with those that print: each may erase what the other has just written.
    """

    def __init__(self, console: Console, shown: RenderableType) -> None:
        self.lock = threading.Lock()
        self._live = Live(
            shown,
            console=console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="draw", daemon=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ended.set()
            self._thread.join()
        finally:
            self._live.stop()

    def _draw(self) -> None:
        while not self._ended.wait(1 / _REFRESHES_PER_SECOND):
            with self.lock:
                self._live.refresh()


class _Page:
    """An answer in its making: what can no longer change is printed, and the rest is drawn again and again."""

    def __init__(self, console: Console) -> None:
        self.text = ""
        self._console = console
        self._waiting = _Waiting()
        self._thoughts = ""
        self._printed = 0  # characters of `text`
        self._begun = False

    def think(self, thought: str) -> None:
        """Take a piece of what the model thinks before it answers."""
        self._thoughts += thought

    def write(self, text: str) -> None:
        """Take a piece of the answer."""
        if text:
            self._print_thoughts()
            self.text += text
            if "\n" in text:
                self._print(self._printed + settled(self.text[self._printed :]))

    def finish(self) -> None:
        """Print what has not been."""
        self._print_thoughts()
        self._print(len(self.text))

    def _print_thoughts(self) -> None:
        thoughts, self._thoughts = self._thoughts, ""
        if thoughts.strip():
            self._console.print(_dim(thoughts))
            self._begun = True

    def _print(self, end: int) -> None:
        block = self.text[self._printed : end]
        self._printed = end
        if block.strip():
            if self._begun:
                self._console.print()
            self._begun = True
            self._console.print(looks(block))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._thoughts:
            yield _Bottom(Group(_dim(self._thoughts), self._waiting), _THOUGHT_LINES)
        elif rest := self.text[self._printed :].strip():
            yield _Bottom(looks(rest), max(1, console.height - 2))
        else:
            yield self._waiting


def _dim(thoughts: str) -> Text:
    return Text(readable(thoughts.strip()), style="dim italic")


def _about(asked: AnswerStream, seconds: float) -> str:
    parts = [f"{seconds:.1f} s"]
    if asked.tokens is not None:
        parts.append(f"{asked.tokens:,} tokens")
    if asked.conversation is not None:
        parts.append(asked.conversation)
    if asked.ignored is not None:
        parts.append(f"ignored: {asked.ignored}")
    return " · ".join(parts)


class _Waiting:
    """A spinner with the seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        self._spinner.update(text=Text(f"{time.monotonic() - self._began:.0f} s · Ctrl-C stops", style="dim"))
        yield self._spinner


class _Bottom:
    """The last lines of something that may be higher than the terminal."""

    def __init__(self, shown: RenderableType, lines: int) -> None:
        self._shown = shown
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._shown, options.update(height=None), pad=False)[-self._lines :]
        for line in lines:
            yield from line
            yield Segment.line()
