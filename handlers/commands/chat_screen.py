"""Shows an answer on a terminal as it arrives: a spinner, the reasoning, Markdown, and a last line about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple, TypeVar

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text
from rich.theme import Theme

from handlers.commands.chat_client import AnswerStream, Call
from handlers.commands.chat_markdown import looks, settled
from upstream.protocol.printable import readable

T = TypeVar("T")

#: The interval at which the part that is not final is redrawn, in seconds.
_DRAW_SECONDS: Final = 1 / 8
#: The lines of reasoning that are visible while a model thinks.
_THOUGHT_LINES: Final = 6
#: Styles in place of rich's own, which are meant for dark terminals.
_STYLES: Final = Theme({"markdown.code": "cyan", "markdown.h1": "bold underline", "markdown.h2": "bold"})


class Shown(NamedTuple):
    """What was shown of an answer. `error` says why it broke off; it is empty if the user stopped the answer."""

    text: str
    error: str | None = None


class Screen:
    """Writes answers to a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(theme=_STYLES, markup=False, highlight=False, emoji=False)

    def say(self, text: str, style: str = "") -> None:
        """Write one line or more, without control characters."""
        self.console.print(Text(readable(text)), style=style or None)

    def wait(self, call: Call[T]) -> Sequence[T]:
        """Show a spinner during a call, and return the call's result. Raises as the call does."""
        with _live(self.console, _Waiting()) as live, call:
            return list(_meanwhile(live, call))

    def show(self, asked: AnswerStream) -> Shown:
        """Show an answer as it arrives, until its end, an error, or Ctrl-C."""
        began = time.monotonic()
        page = _Page(self.console)
        error: str | None = None
        with _live(self.console, page) as live, asked:
            try:
                for delta in _meanwhile(live, asked):
                    page.think(delta.thought)
                    page.write(delta.text)
            except KeyboardInterrupt:
                error = ""
            except click.ClickException as failed:
                error = failed.message
            page.finish()
        if error is None:
            self.say(_about(asked, time.monotonic() - began), "dim")
        elif not error:
            self.say("stopped", "dim")
        return Shown(page.text, error)


def _live(console: Console, shown: RenderableType) -> Live:
    """A live display below the printed text, which is redrawn repeatedly and removed at the end."""
    return Live(
        shown,
        console=console,
        auto_refresh=False,
        transient=True,
        vertical_overflow="crop",
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _meanwhile(live: Live, call: Call[T]) -> Iterator[T]:
    """Yield the items of a call, for which another thread waits, and redraw meanwhile. Raises as the call does.

    The other thread ends with the call. The calling thread never waits for the network, since a Ctrl-C just before the
    wait would be noticed only after it; and since it alone writes to the terminal, nothing erases new output.
    """
    arrived: SimpleQueue[T | _Ended] = SimpleQueue()
    threading.Thread(target=_make, args=(call, arrived), name="call", daemon=True).start()
    draw_at = 0.0
    while True:
        if (wait := draw_at - time.monotonic()) <= 0:
            live.refresh()
            wait = _DRAW_SECONDS
            draw_at = time.monotonic() + wait
        try:
            item = arrived.get(timeout=wait)
        except Empty:
            continue
        if not isinstance(item, _Ended):
            yield item
        elif item.error is not None:
            raise item.error
        else:
            return


class _Ended(NamedTuple):
    """Marks the end of a call, with or without an error."""

    error: click.ClickException | None


def _make(call: Call[T], arrived: SimpleQueue[T | _Ended]) -> None:
    """Make a call, and put its items into the queue. Python prints the traceback of an unexpected error."""
    ended = _Ended(click.ClickException("the answer could not be read"))
    try:
        for item in call:
            arrived.put(item)
        ended = _Ended(None)
    except click.ClickException as error:
        ended = _Ended(error)
    finally:
        arrived.put(ended)


class _Page:
    """An answer in progress: the part that can no longer change is printed, and the rest is redrawn repeatedly."""

    def __init__(self, console: Console) -> None:
        self.text = ""
        self._console = console
        self._waiting = _Waiting()
        self._thoughts = ""
        self._printed = 0  # characters of `text`
        self._begun = False

    def think(self, thought: str) -> None:
        """Add a piece of the model's reasoning before its answer."""
        self._thoughts += thought

    def write(self, text: str) -> None:
        """Add a piece of the answer."""
        if text:
            self._print_thoughts()
            self.text += text
            if "\n" in text:
                self._print(self._printed + settled(self.text[self._printed :]))

    def finish(self) -> None:
        """Print what has not been printed yet."""
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
    """A spinner with the seconds since it was created."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        self._spinner.update(text=Text(f"{time.monotonic() - self._began:.0f} s · Ctrl-C stops", style="dim"))
        yield self._spinner


class _Bottom:
    """The last lines of a renderable that may have more lines than the terminal."""

    def __init__(self, shown: RenderableType, lines: int) -> None:
        self._shown = shown
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._shown, options.update(height=None), pad=False)[-self._lines :]
        for line in lines:
            yield from line
            yield Segment.line()
