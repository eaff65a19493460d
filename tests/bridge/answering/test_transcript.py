"""A list of messages as one prompt: every text verbatim, all of them in order, nothing else but headings."""

from __future__ import annotations

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.answering.messages import Message, ToolCall
from bridge.answering.transcript import prompt
from upstream.protocol.files import File

OPENING = "[The conversation so far. Answer its last message.]"
LOOK = ToolCall("call_1", "look", '{"at": "<the> \\"sky\\""}')
PDF, PNG = File(b"a", "application/pdf", "aa", "a.pdf"), File(b"b", "image/png", "bb", "b.png")
LOOKS = f"[Assistant calls the tool look (call_1)]\n{LOOK.arguments}"


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str, name: str | None = None) -> Message:
    return Message("user", text, name)


def user_with(text: str, *files: File) -> Message:
    return Message("user", text, files=files)


def assistant(text: str, *calls: ToolCall) -> Message:
    return Message("assistant", text, tool_calls=calls)


def tool(text: str, call: str | None = None) -> Message:
    return Message("tool", text, tool_call_id=call)


PROMPTS: dict[str, tuple[list[Message], str]] = {
    "a single question is sent as it is": ([user("hi")], "hi"),
    "blanks are kept": ([user("  hi \n")], "  hi \n"),
    "a system text stands before it": ([system("be kind"), user("hi")], "be kind\n\nhi"),
    "leading system texts are joined": ([system("a"), system("b"), user("hi")], "a\n\nb\n\nhi"),
    "an empty system text leaves no trace": ([system(""), user("hi")], "hi"),
    "system texts alone": ([system("a"), system("b")], "a\n\nb"),
    "a question by name": ([user("hi", "Ada")], f"{OPENING}\n\n[User Ada]\nhi"),
    "two questions": ([user("a"), user("b")], f"{OPENING}\n\n[User]\na\n\n[User]\nb"),
    "a conversation": (
        [system("be kind"), user("a"), assistant("b"), user("c")],
        f"be kind\n\n{OPENING}\n\n[User]\na\n\n[Assistant]\nb\n\n[User]\nc",
    ),
    "a later system text keeps its place": (
        [user("a"), assistant("b"), system("now be brief"), user("c")],
        f"{OPENING}\n\n[User]\na\n\n[Assistant]\nb\n\n[System]\nnow be brief\n\n[User]\nc",
    ),
    "a conversation that ends in an answer": (
        [user("a"), assistant("b")],
        f"{OPENING}\n\n[User]\na\n\n[Assistant]\nb",
    ),
    "a tool called and its result": (
        [user("a"), assistant("", LOOK), tool("blue", "call_1")],
        f"{OPENING}\n\n[User]\na\n\n{LOOKS}\n\n[Tool result (call_1)]\nblue",
    ),
    "an answer that calls a tool as well": (
        [user("a"), assistant("let me see", LOOK)],
        f"{OPENING}\n\n[User]\na\n\n[Assistant]\nlet me see\n\n{LOOKS}",
    ),
    "an empty message is shown to be empty": (
        [user("a"), assistant(""), user("b")],
        f"{OPENING}\n\n[User]\na\n\n[Assistant]\n\n\n[User]\nb",
    ),
    "a document is sent beside the text as it is": ([user_with("sum it up", PDF)], "sum it up"),
    "pictures and documents are numbered apart": (
        [user_with("a", PDF, PNG), assistant("b"), user_with("c", PNG, PDF)],
        f"{OPENING}\n\n[User, document 1, picture 1]\na\n\n[Assistant]\nb\n\n[User, picture 2, document 2]\nc",
    ),
    "a document without a word": (
        [user_with("", PDF), assistant("b"), user("c")],
        f"{OPENING}\n\n[User, document 1]\n\n\n[Assistant]\nb\n\n[User]\nc",
    ),
    "no escaping": ([user('<b>"&amp;" {"a": 1} \\n \u2028')], '<b>"&amp;" {"a": 1} \\n \u2028'),
}


@pytest.mark.parametrize(("messages", "written"), PROMPTS.values(), ids=PROMPTS)
def test_a_prompt(messages: list[Message], written: str) -> None:
    assert prompt(messages) == written


any_text = st.text(max_size=40)
any_call = st.builds(ToolCall, st.text(max_size=5), st.text(max_size=5), any_text)
any_message = st.one_of(
    st.builds(system, any_text),
    st.builds(user, any_text, st.none() | st.text(max_size=5)),
    st.builds(assistant, any_text),
    st.builds(assistant, any_text, any_call, any_call),
    st.builds(tool, any_text, st.none() | st.text(max_size=5)),
)


@a_share(of=4)
@given(st.lists(any_message, max_size=6))
def test_all_texts_stand_verbatim_and_in_order(messages: list[Message]) -> None:
    written, at = prompt(messages), 0
    for message in messages:
        for text in (message.text, *(piece for call in message.tool_calls for piece in (call.name, call.arguments))):
            found = written.find(text, at)
            assert found >= 0
            at = found + len(text)
