"""`chat` on a terminal: typed and pasted input, keys, and the contents of the screen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hostile_api import STEERING, event, hostile, steers
from pictures import png
from running import RunningBridge
from terminal import ALT_ENTER, CTRL_C, CTRL_D, ENTER, TAB, Terminal, terminal

from handlers.request.appkeys import JOINABLE
from upstream.arena import Arena, Line, Until

STOP = Line("ad", {"finishReason": "stop"})


@pytest.fixture
async def chat(bridge: RunningBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Terminal]:
    """A chat that waits for its first message."""
    monkeypatch.chdir(tmp_path)
    environment = {
        "OPENAI_API_KEY": bridge.key,
        "OPENAI_BASE_URL": bridge.base_url,
        "XDG_STATE_HOME": str(tmp_path / "home"),
    }
    async with terminal(["chat"], environment) as screen:
        await screen.sees("you>")
        yield screen


def prompts(arena: Arena) -> list[str]:
    """All user messages in the site's evaluations."""
    return [
        message.content
        for evaluation in arena.evaluations.values()
        for message in evaluation.messages
        if message.role == "user"
    ]


async def test_an_answer_is_rendered_as_markdown_with_a_line_of_its_numbers(chat: Terminal, arena: Arena) -> None:
    release = asyncio.Event()
    arena.script = lambda _: [
        Line("ag", "Let me think. "),
        Until(release),
        Line("a0", "A **heron** &#27;[31m waits `here`, <b>there</b>.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"),
        Line("a0", "```python\nprint('fish')\n```\nand " + "herons " * 40),
        STOP,
    ]
    chat.type("hello" + ENTER)
    await chat.sees("Let me think.")
    await chat.sees("s · Ctrl-C stops")
    release.set()
    await chat.sees("tokens · new")
    await chat.sees("you>", 2)
    for shown in ("A heron", "waits here, <b>there</b>.", "print('fish')", "\N{REPLACEMENT CHARACTER}[31m"):
        assert shown in chat.text
    for raw in ("**", "```", "|---|"):
        assert raw not in chat.text
    wrapped = [line for line in chat.text.splitlines() if "herons" in line]
    assert len(wrapped) == 3
    assert all(line.endswith("herons") for line in wrapped)  # lines are wrapped between words
    chat.type(CTRL_D)
    assert await chat.ends() == 0


async def test_several_pasted_or_typed_lines_are_one_message(chat: Terminal, arena: Arena) -> None:
    chat.paste("first line\nsecond line\n")
    chat.type("typed" + ALT_ENTER + "last" + ENTER)
    await chat.sees("tokens · new")
    assert prompts(arena) == ["first line\nsecond line\ntyped\nlast"]
    chat.type("/echo" + ENTER)
    await chat.sees("follow-up")


async def test_ctrl_c_stops_an_answer_and_only_twice_ends_the_chat(
    chat: Terminal, bridge: RunningBridge, arena: Arena
) -> None:
    arena.script = lambda _: [Line("a0", "the beginning"), Until(asyncio.Event())]
    chat.type("go on for ever" + ENTER)
    await chat.sees("the beginning")
    chat.type(CTRL_C)
    await chat.sees("stopped")
    await chat.sees("you>", 2)
    joinable = bridge.app[JOINABLE]
    assert not list(joinable)  # a stopped answer is not kept for a retry to join
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 30)
    arena.script = lambda _: [Line("a0", "another beginning"), Until(asyncio.Event())]
    chat.type("/retry" + ENTER)
    await chat.sees("another beginning")  # not the stopped answer
    chat.type(CTRL_C)
    await chat.sees("stopped", 2)
    await chat.sees("you>", 3)

    chat.type("half a line" + CTRL_C)
    await chat.sees("Ctrl-C again ends the chat")
    arena.script = None
    chat.type("/echo" + ENTER)
    await chat.sees("tokens · new")
    assert "another beginning" in chat.text.partition("/echo")[2]  # a stopped answer is part of the chat
    assert "half a line" not in prompts(arena)[-1]
    await chat.sees("you>", 4)
    chat.type(CTRL_C)
    await chat.sees("Ctrl-C again ends the chat")
    chat.type(CTRL_C)
    assert await chat.ends() == 0


async def test_slash_commands_control_the_chat(chat: Terminal, arena: Arena, tmp_path: Path) -> None:
    chat.type("/help" + ENTER)
    await chat.sees("you>", 2)
    assert "/save FILE.md" in chat.text
    name = "claude-opus-5-1-20260114-thinking-32k"
    chat.type(f"/model {name[:-3]}")
    await chat.sees(name)  # in the completion menu
    chat.type(TAB)
    await chat.sees(f"you> /model {name}")
    chat.type(ENTER)
    await chat.sees(f"\n{name}\n")

    chat.type("/system Be brief." + ENTER)
    await chat.sees("applies from the next message on")
    (tmp_path / "heron.png").write_bytes(png(1))
    chat.type("/image heron.png" + ENTER)
    await chat.sees("The next message will include: heron.png")
    chat.type("/image nothing.png" + ENTER)
    await chat.sees("nothing.png: No such file or directory")
    chat.type("/say a heron" + ENTER)
    await chat.sees("tokens · new")
    (evaluation,) = arena.evaluations.values()
    assert evaluation.messages[0].attachments
    assert "Be brief." in evaluation.messages[0].content

    chat.type("/retry" + ENTER)
    await chat.sees("tokens · regenerate")
    chat.type("/save chat.md" + ENTER)
    await chat.sees("saved chat.md")
    assert "a heron" in (tmp_path / "chat.md").read_text().partition("(with 1 picture)")[2]
    chat.type("/save chat.md" + ENTER)
    await chat.sees("chat.md: File exists")
    chat.type("/clear" + ENTER)
    await chat.sees("This is a new chat.")
    chat.type("/quit" + ENTER)
    assert await chat.ends() == 0
    history = tmp_path / "home" / "lmarena-bridge" / "chat-history"
    assert "+/say a heron" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


async def test_a_drawn_picture_is_saved(chat: Terminal, bridge: RunningBridge, tmp_path: Path) -> None:
    chat.type(f"/model {bridge.model(output='image')}" + ENTER)
    await chat.sees("(draws)")
    for name in ("a-heron-at-dusk.png", "a-heron-at-dusk-2.png"):
        chat.type("A heron, at dusk!" + ENTER)
        await chat.sees(f"saved {name}")
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


async def test_chat_with_a_question_prints_one_answer_and_ends(bridge: RunningBridge, arena: Arena) -> None:
    environment = {"OPENAI_API_KEY": bridge.key, "OPENAI_BASE_URL": bridge.origin}
    async with terminal(["chat", "/say", "a **heron**"], environment) as chat:
        await chat.sees("tokens · new")
        assert "a heron\n" in chat.text
        assert await chat.ends() == 0
    arena.faults.arm("rejected", message="Not today")
    async with terminal(["chat", "hello"], environment) as chat:
        await chat.sees("Error: ")
        assert "Not today" in chat.text
        assert await chat.ends() == 1


async def test_an_error_is_shown_and_the_message_stays_in_the_input(chat: Terminal, arena: Arena) -> None:
    arena.faults.arm("rejected", message="Not today")
    chat.type("hello there" + ENTER)
    await chat.sees("Not today")
    await chat.sees("you> hello there", 2)
    chat.type(ENTER)
    await chat.sees("tokens · new")


async def test_control_characters_from_a_hostile_server_do_not_reach_the_terminal() -> None:
    """Control characters in a model's name, a thought, a delta and an error have no effect on the terminal."""
    delta = {"reasoning_content": STEERING, "content": f"{STEERING} &#27;[31mred &#x202e; [a](https://x/{STEERING})"}
    events = event(choices=[{"delta": delta}]) + event(error={"message": STEERING})
    async with hostile(200, events) as origin, terminal(["chat", "--url", origin], {"OPENAI_API_KEY": "k"}) as chat:
        await chat.sees("you>")
        chat.type("hi" + ENTER)
        await chat.sees("you>", 2)
        ours = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\x08", "", chat.written)  # without those of rich and prompt_toolkit
        assert ours.count("turned") >= 4
        assert not steers(ours)
        for theirs in ("\x1b[31mred", "\x1b]"):
            assert theirs not in chat.written
