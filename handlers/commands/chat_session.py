"""A chat on a terminal: its prompt, its commands, and the answers in between."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from handlers.commands.chat_client import Bridge, ListedModel
from handlers.commands.chat_conversation import Conversation, Turn
from handlers.commands.chat_files import history_path, read_picture, save_picture, save_text
from handlers.commands.chat_prompt import Prompt
from handlers.commands.chat_screen import Screen


class Command(NamedTuple):
    """A line that is not for the model."""

    argument: str
    about: str
    act: Callable[[Session, str], None]


def converse(bridge: Bridge, model: ListedModel, listed: Sequence[ListedModel]) -> None:
    """Prompt for messages and show answers, until Ctrl-D."""
    Session(bridge, model, listed).run()


class Session:
    """One chat."""

    def __init__(self, bridge: Bridge, model: ListedModel, listed: Sequence[ListedModel]) -> None:
        self._bridge = bridge
        self._model = model
        self._listed = {each.name: each for each in listed}
        self._conversation = Conversation()
        self._pictures: list[tuple[str, str]] = []  # name and data URL, for the next message
        self._screen = Screen()
        self._prompt = Prompt(COMMANDS, self._listed, history_path(os.environ))
        self._ended = False

    def run(self) -> None:
        """Chat until Ctrl-D, Ctrl-C twice, or /quit."""
        self._say(f"{self._model.name}. /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends the chat.")
        draft: str | None = ""
        while draft is not None:
            try:
                draft = self._turn(draft)
            except KeyboardInterrupt:  # a Ctrl-C just after an answer ends nothing
                draft = ""

    def _turn(self, draft: str) -> str | None:
        """Read a line and act on it. Returns the draft of the next line, or None at the end of the chat."""
        typed = self._prompt.read(draft)
        if typed is None:
            return None
        words = typed.strip()
        name, _, argument = words.partition(" ")
        if (command := COMMANDS.get(name)) is not None:
            command.act(self, argument.strip())
            return None if self._ended else ""
        if not words:
            return ""
        turn = Turn(words, tuple(url for _, url in self._pictures))
        self._pictures.clear()
        return "" if self._answer(turn) else words  # to be sent again

    def _say(self, text: str) -> None:
        self._screen.say(text, "dim")

    def _complain(self, text: str) -> None:
        self._screen.say(text, "red")

    def _answer(self, turn: Turn) -> bool:
        """Ask for an answer to a turn and add the turn to the conversation. Returns whether there is an answer."""
        if self._model.draws:
            return self._draw(turn)
        shown = self._screen.show(self._bridge.answer(self._model.name, self._conversation.messages(turn)))
        if shown.error:
            self._complain(shown.error)
            return False
        if shown.text:
            turn.answer = shown.text
            self._conversation.turns.append(turn)
        return bool(shown.text)

    def _draw(self, turn: Turn) -> bool:
        try:
            drawn = self._screen.wait(self._bridge.draw(self._model.name, turn.question, turn.pictures))
            for data in drawn:
                self._screen.say(f"saved {save_picture(data, turn.question, Path())}")
        except KeyboardInterrupt:
            self._say("stopped")
            return False
        except click.ClickException as error:
            self._complain(error.message)
            return False
        except (OSError, ValueError) as error:
            self._complain(f"the picture could not be saved: {error}")
            return False
        self._conversation.turns.append(turn)
        return True

    # --- commands ---

    def help(self, _: str) -> None:
        """/help."""
        rows = [(f"{name} {command.argument}".rstrip(), command.about) for name, command in COMMANDS.items()]
        width = max(len(row[0]) for row in rows)
        self._say("\n".join(f"{left:{width}}  {right}" for left, right in rows))
        self._say("Enter sends, Alt-Enter starts a new line. Any other line is for the model.")

    def model(self, name: str) -> None:
        """/model."""
        if name:
            self._model = self._listed.get(name) or ListedModel(name, draws=False)
            if name not in self._listed:
                self._complain(f"The bridge does not list a model '{name}'; it will be used anyway.")
        self._say(f"{self._model.name}{' (draws)' if self._model.draws else ''}")

    def system(self, text: str) -> None:
        """/system."""
        self._conversation.system = text
        self._say("The system prompt applies from the next message on." if text else "There is now no system prompt.")

    def retry(self, _: str) -> None:
        """/retry."""
        turns = self._conversation.turns
        if not turns:
            self._complain("There is no answer to retry.")
            return
        last = turns.pop()
        before = len(turns)
        try:
            self._answer(Turn(last.question, last.pictures))
        finally:  # a Ctrl-C may come after the answer, too
            if len(turns) == before:
                turns.append(last)  # it stays as it was

    def image(self, path: str) -> None:
        """/image."""
        name = path.strip("'\"")
        try:
            self._pictures.append((name, read_picture(Path(name).expanduser())))
        except (OSError, ValueError) as error:
            self._complain(f"{name}: {getattr(error, 'strerror', None) or error}")
            return
        self._say(f"The next message will include: {', '.join(each for each, _ in self._pictures)}")

    def save(self, path: str) -> None:
        """/save."""
        if not path:
            self._complain("Give the name of a file: /save chat.md")
            return
        try:
            save_text(self._conversation.as_markdown(), Path(path).expanduser())
        except OSError as error:
            self._complain(f"{path}: {error.strerror or error}")
            return
        self._say(f"saved {path}")

    def clear(self, _: str) -> None:
        """/clear."""
        self._conversation.turns.clear()
        self._pictures.clear()
        self._say("This is a new chat.")

    def quit(self, _: str) -> None:
        """/quit."""
        self._ended = True


COMMANDS: Final[Mapping[str, Command]] = {
    "/help": Command("", "show this list", Session.help),
    "/model": Command("NAME", "switch to another model; Tab completes the name", Session.model),
    "/system": Command("TEXT", "set the system prompt; without TEXT, remove it", Session.system),
    "/retry": Command("", "ask for another answer to the last message", Session.retry),
    "/image": Command("FILE", "add a picture to the next message", Session.image),
    "/save": Command("FILE.md", "save the chat to a new file", Session.save),
    "/clear": Command("", "start a new chat with the same model", Session.clear),
    "/quit": Command("", "end the chat, as Ctrl-D or Ctrl-C twice does", Session.quit),
}
