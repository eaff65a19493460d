"""The prompt of a terminal chat: lines that are edited and remembered, and completion of commands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from handlers.commands.chat_files import open_history

_PROMPT: Final = "you> "
_WITH_PATH: Final = ("/image ", "/save ")


class Prompt:
    """Reads the user's input. Enter sends it, Alt-Enter starts a new line, and pasted line breaks are kept.

    Ctrl-C clears the line; twice in a row it ends the chat, as Ctrl-D does.
    """

    def __init__(self, commands: Iterable[str], models: Iterable[str], history: Path) -> None:
        self._interrupted = False
        self._session: PromptSession[str] = PromptSession(
            _PROMPT,
            multiline=True,
            reserve_space_for_menu=4,
            prompt_continuation=" " * len(_PROMPT),
            key_bindings=self._bindings(),
            completer=CommandCompleter(tuple(commands), tuple(filter(str.isprintable, models))),
            history=_history(history),
            rprompt=self._hint,
        )

    def read(self, draft: str = "") -> str | None:
        """Wait for a message, beginning with `draft`; None at the end of the chat."""
        self._interrupted = False
        try:
            return self._session.prompt(default=draft)
        except (EOFError, KeyboardInterrupt):
            return None

    def _hint(self) -> str:
        return "Ctrl-C again ends the chat" if self._interrupted and not self._session.default_buffer.text else ""

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def send(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def start_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c")
        def interrupt(event: KeyPressEvent) -> None:
            if self._interrupted and not event.current_buffer.text:
                event.app.exit(exception=EOFError)
            event.current_buffer.reset()
            self._interrupted = True

        return keys


class CommandCompleter(Completer):
    """Completes the names of commands, of models after `/model`, and of files."""

    def __init__(self, commands: tuple[str, ...], models: tuple[str, ...]) -> None:
        self._commands = commands
        self._models = models
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield the possible completions of the line; any part of a model's name matches."""
        line = document.text_before_cursor
        if line.startswith("/model "):
            word = line.removeprefix("/model ")
            matching = [name for name in self._models if word.lower() in name.lower()]
            yield from (Completion(name, start_position=-len(word)) for name in matching)
        elif line.startswith(_WITH_PATH):
            path = line.partition(" ")[2]
            yield from self._paths.get_completions(Document(path, len(path)), complete_event)
        elif line.startswith("/") and " " not in line:
            matching = [name for name in self._commands if name.startswith(line)]
            yield from (Completion(name, start_position=-len(line)) for name in matching)


def _history(path: Path) -> History:
    """The history in a file, or only in memory if the file cannot be written."""
    try:
        open_history(path)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
