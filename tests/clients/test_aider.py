"""aider, which edits a file as the model's answer says."""

from __future__ import annotations

from collections.abc import Iterator

from clients import CLIENTS, MODEL, FinishedProgram, Served, installed

from upstream.arena import Line, Turn

pytestmark = CLIENTS

BEFORE = 'print("hello")\n'
AFTER = 'print("hello, otter")\n'
EDIT = f"Here it is.\n\ngreet.py\n```\n{AFTER}```\n"
QUESTION = "Whom does it greet?"
KNOWN = "It greets an otter."


async def aider(served: Served, *messages: str, model: str = MODEL) -> FinishedProgram:
    """Let aider make the requested changes to greet.py, in one session."""
    command = [str(installed("aider", "bin/aider")), "--model", f"openai/{model}", "--edit-format", "whole"]
    switches = ["--no-git", "--yes-always", "--no-check-update", "--no-show-release-notes", "--no-show-model-warnings"]
    more = ["--no-pretty", "--no-fancy-input", "--no-suggest-shell-commands", "--no-detect-urls", "--map-tokens", "0"]
    environ = {"OPENAI_API_BASE": served.base_url, "OPENAI_API_KEY": served.key}
    asked = ["--message", messages[0]] if len(messages) == 1 else []
    stdin = None if asked else "".join(f"{message}\n" for message in messages).encode()
    return await served.run([*command, *switches, *more], *asked, "greet.py", environ=environ, stdin=stdin)


def greets_an_otter(turn: Turn) -> Iterator[Line]:
    """A model that edits greet.py, and knows whom it greets."""
    text = KNOWN if QUESTION in turn.prompt else EDIT
    for delta in text.splitlines(keepends=True):
        yield Line("a0", delta)
    yield Line("ad", {"finishReason": "stop"})


async def test_aider_edits_a_file_as_the_answer_says(served: Served) -> None:
    served.arena.script = greets_an_otter
    file = served.folder / "greet.py"
    file.write_text(BEFORE)
    ended = await aider(served, "Greet an otter")
    assert ended.status == 0, ended.text
    assert file.read_text() == AFTER, ended.text
    assert served.calls == ["create"]


async def test_the_second_message_of_a_session_starts_a_new_evaluation_with_the_history(served: Served) -> None:
    """The second message is no follow-up, since aider inserts the current files after the earlier messages."""
    served.arena.script = greets_an_otter
    file = served.folder / "greet.py"
    file.write_text(BEFORE)
    ended = await aider(served, "Greet an otter, please", f"/ask {QUESTION}")
    assert ended.status == 0, ended.text
    assert KNOWN in ended.out, ended.text
    assert served.calls == ["create", "create"]
    (shown,) = served.last_evaluation.messages[:1]
    assert "Greet an otter, please" in shown.content
    assert AFTER in shown.content


async def test_a_refusal_has_the_bridges_message(served: Served) -> None:
    (served.folder / "greet.py").write_text(BEFORE)
    ended = await aider(served, "Greet an otter", model="gpt-2")
    assert "The model 'gpt-2' does not exist" in ended.text
