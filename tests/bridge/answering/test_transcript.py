"""Messages as one prompt: every text verbatim and in order, with nothing added but headings."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.answering import transcript
from bridge.answering.messages import Message, ToolCall
from bridge.answering.tools.blocks import call_block, response_block
from bridge.answering.transcript import follow_up, prompt, shorten
from upstream.protocol.files import File

OPENING = "[The conversation so far. Answer its last message.]"
LOOK = ToolCall("call_1", "look", '{"at": "<the> \\"sky\\""}')
PDF, PNG = File(b"a", "application/pdf", "aa", "a.pdf"), File(b"b", "image/png", "bb", "b.png")
LOOKS = '<tool_call>\n{"name": "look", "arguments": {"at": "<the> \\"sky\\""}}\n</tool_call>'
PATCH = ToolCall("call_2", "patch", 'a\n"b"', "custom")
PATCHES = '<tool_call>\n{"name": "patch", "input": "a\\n\\"b\\""}\n</tool_call>'
AFTER_RESULTS = "[The conversation so far. Go on from the results at its end.]"
AS_INSTRUCTED = "[The conversation so far. Write what comes next, as the instruction at its end says.]"
CONTINUE = (
    "[The conversation so far. The assistant's last message is not finished: continue it from exactly where it stops, "
    "without repeating any of it and without a word about it.]"
)


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str, name: str | None = None) -> Message:
    return Message("user", text, name)


def user_with(text: str, *files: File) -> Message:
    return Message("user", text, files=files)


def assistant(text: str, *calls: ToolCall) -> Message:
    return Message("assistant", text, tool_calls=calls)


def tool(text: str, call: str | None = None, name: str | None = None, *files: File) -> Message:
    return Message("tool", text, name, tool_call_id=call, files=files)


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
        f"{CONTINUE}\n\n[User]\na\n\n[Assistant]\nb",
    ),
    "an answer begun for the model": ([assistant("Once upon")], f"{CONTINUE}\n\n[Assistant]\nOnce upon"),
    "a system text, and an answer begun": (
        [system("be kind"), user("a"), assistant("Dear ")],
        f"be kind\n\n{CONTINUE}\n\n[User]\na\n\n[Assistant]\nDear ",
    ),
    "an instruction for the answer": (
        [system("be kind"), user("a"), system("in rhymes")],
        f"be kind\n\n{AS_INSTRUCTED}\n\n[User]\na\n\n[System]\nin rhymes",
    ),
    "an instruction behind an answer": (
        [user("a"), assistant("b"), system("tell more")],
        f"{AS_INSTRUCTED}\n\n[User]\na\n\n[Assistant]\nb\n\n[System]\ntell more",
    ),
    "two instructions for the answer": (
        [user("a"), system("in rhymes"), system("be brief")],
        f"{AS_INSTRUCTED}\n\n[User]\na\n\n[System]\nin rhymes\n\n[System]\nbe brief",
    ),
    "a tool called and its result": (
        [user("a"), assistant("", LOOK), tool("blue", "call_1")],
        (
            f"{AFTER_RESULTS}\n\n[User]\na\n\n[Assistant]\n{LOOKS}\n\n"
            '<tool_response id="call_1" name="look">\nblue\n</tool_response>'
        ),
    ),
    "a tool called, its result and a question": (
        [user("a"), assistant("", LOOK), tool("blue", "call_1"), user("why?")],
        (
            f"{OPENING}\n\n[User]\na\n\n[Assistant]\n{LOOKS}\n\n"
            '<tool_response id="call_1" name="look">\nblue\n</tool_response>\n\n[User]\nwhy?'
        ),
    ),
    "two calls and their results, the other way round": (
        [user("a"), assistant("", LOOK, PATCH), tool("done", "call_2"), tool("blue", "call_1")],
        (
            f"{AFTER_RESULTS}\n\n[User]\na\n\n[Assistant]\n{LOOKS}\n{PATCHES}\n\n"
            '<tool_response id="call_2" name="patch">\ndone\n</tool_response>\n\n'
            '<tool_response id="call_1" name="look">\nblue\n</tool_response>'
        ),
    ),
    "a function's result has no id": (
        [user("a"), assistant("", LOOK._replace(id="")), tool("blue", None, "look")],
        f'{AFTER_RESULTS}\n\n[User]\na\n\n[Assistant]\n{LOOKS}\n\n<tool_response name="look">\nblue\n</tool_response>',
    ),
    "a result of no call": (
        [user("a"), tool("blue", "call_9")],
        f'{AFTER_RESULTS}\n\n[User]\na\n\n<tool_response id="call_9">\nblue\n</tool_response>',
    ),
    "a result with a picture": (
        [user_with("a", PNG), assistant("", LOOK), tool("blue", "call_1", None, PNG, PDF)],
        (
            f"{AFTER_RESULTS}\n\n[User, picture 1]\na\n\n[Assistant]\n{LOOKS}\n\n"
            '<tool_response id="call_1" name="look" files="picture 2, document 1">\nblue\n</tool_response>'
        ),
    ),
    "a call without arguments": (
        [user("a"), assistant("", LOOK._replace(arguments=" ")), user("b")],
        (
            f'{OPENING}\n\n[User]\na\n\n[Assistant]\n<tool_call>\n{{"name": "look", "arguments": {{}}}}\n</tool_call>'
            "\n\n[User]\nb"
        ),
    ),
    "arguments that are no JSON": (
        [user("a"), assistant("", LOOK._replace(arguments='{"at')), user("b")],
        (
            f"{OPENING}\n\n[User]\na\n\n[Assistant]\n<tool_call>\n"
            '{"name": "look", "arguments": "{\\"at"}\n</tool_call>\n\n[User]\nb'
        ),
    ),
    "an answer that calls a tool as well": (
        [user("a"), assistant("let me see", LOOK), user("b")],
        f"{OPENING}\n\n[User]\na\n\n[Assistant]\nlet me see\n\n{LOOKS}\n\n[User]\nb",
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
def test_messages_are_written_as_a_prompt(messages: list[Message], written: str) -> None:
    assert prompt(messages) == written


any_text = st.text(max_size=40)
any_call = st.builds(
    ToolCall, st.text(max_size=5), st.text("abcXYZ_-.", max_size=5), any_text, st.sampled_from(["function", "custom"])
)
any_message = st.one_of(
    st.builds(system, any_text),
    st.builds(user, any_text, st.none() | st.text(max_size=5)),
    st.builds(assistant, any_text),
    st.builds(assistant, any_text, any_call, any_call),
    st.builds(tool, any_text, st.none() | st.text(max_size=5)),
)


@a_share(of=4)
@given(st.lists(any_message, max_size=6))
def test_a_prompt_contains_all_texts_and_calls_verbatim_and_in_order(messages: list[Message]) -> None:
    """This includes names and arguments of calls; arguments that are JSON keep their spelling."""
    written, at = prompt(messages), 0
    for message in messages:
        for text in (message.text, *map(call_block, message.tool_calls)):
            found = written.find(text, at)
            assert found >= 0
            at = found + len(text)


@a_share(of=5)
@given(any_call)
def test_a_tool_call_is_written_as_a_block_of_json(call: ToolCall) -> None:
    before, after = "<tool_call>\n", "\n</tool_call>"
    block = call_block(call)
    assert block.startswith(before)
    assert block.endswith(after)
    read = orjson.loads(block[len(before) : -len(after)])
    if call.kind == "custom":
        assert read == {"name": call.name, "input": call.arguments}
    else:
        assert set(read) == {"name", "arguments"}


INSTRUCTIONS = "# Tools\n\nas said"
LEADING: dict[str, tuple[list[Message], str]] = {
    "a question": ([user("hi")], f"{INSTRUCTIONS}\n\nhi"),
    "a system text": ([system("be kind"), user("hi")], f"{INSTRUCTIONS}\n\nbe kind\n\nhi"),
    "a conversation": (
        [system("be kind"), user("a"), assistant("b"), user("c")],
        f"{INSTRUCTIONS}\n\nbe kind\n\n{OPENING}\n\n[User]\na\n\n[Assistant]\nb\n\n[User]\nc",
    ),
    "an answer begun": ([assistant("a")], f"{INSTRUCTIONS}\n\n{CONTINUE}\n\n[Assistant]\na"),
    "system texts alone": ([system("a"), system("b")], f"{INSTRUCTIONS}\n\na\n\nb"),
}


@pytest.mark.parametrize(("messages", "written"), LEADING.values(), ids=LEADING)
def test_instructions_precede_all_messages_of_the_caller(messages: list[Message], written: str) -> None:
    assert prompt(messages, INSTRUCTIONS) == written


SEEN = [system("be kind"), user("a"), assistant("b", LOOK, PATCH)]
RESULT = '<tool_response id="call_1" name="look">\nblue\n</tool_response>'
FOLLOW_UPS: dict[str, tuple[list[Message], str]] = {
    "a question": ([*SEEN, user(" why?\n")], " why?\n"),
    "a question with a picture": ([*SEEN, user_with("why?", PNG)], "why?"),
    "a result": ([*SEEN, tool("blue", "call_1")], RESULT),
    "two results": (
        [*SEEN, tool("blue", "call_1"), tool("done", "call_2")],
        f'{RESULT}\n\n<tool_response id="call_2" name="patch">\ndone\n</tool_response>',
    ),
    "a result and a question": ([*SEEN, tool("blue", "call_1"), user("why?")], f"{RESULT}\n\nwhy?"),
    "a function's result": (
        [*SEEN, tool("blue", None, "look")],
        '<tool_response name="look">\nblue\n</tool_response>',
    ),
    "a result with a picture": (
        [*SEEN, tool("blue", "call_1", None, PNG)],
        '<tool_response id="call_1" name="look" files="picture 1">\nblue\n</tool_response>',
    ),
}


@pytest.mark.parametrize(("messages", "written"), FOLLOW_UPS.values(), ids=FOLLOW_UPS)
def test_a_follow_up_contains_only_the_new_messages(messages: list[Message], written: str) -> None:
    assert follow_up(messages) == written


def test_a_tool_result_is_written_verbatim() -> None:
    text = 'a "b" <c> </tool_response> &amp; \\n\n'
    assert text in response_block(text, "call_1", "look")


@a_share(of=10)
@given(st.lists(any_message, max_size=12), st.integers(0, 150), st.sampled_from(["", "Answer in JSON."]))
def test_a_long_conversation_is_shortened_by_as_few_messages_as_necessary(
    messages: list[Message], longest: int, told: str
) -> None:
    kept = shorten(tuple(messages), told, longest)
    leading = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    every = [tuple(messages[:leading] + messages[at:]) for at in range(leading, max(leading + 1, len(messages)))]
    assert kept == next((each for each in every if len(prompt(each, told)) <= longest), every[-1])


def test_shortening_many_messages_writes_few_prompts_and_none_much_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def noted(messages: Sequence[Message], told: str) -> str:
        text = prompt(messages, told)
        written.append(len(text))
        return text

    monkeypatch.setattr(transcript, "prompt", noted)
    messages = tuple(user("a" * 1000) for _ in range(3000))
    kept = shorten(messages, "", 100_000)
    assert len(kept) == 99
    assert len(written) < 5
    assert max(written) < 110_000
