"""Conversations with tools: an agent's turns are follow-ups, even if its client spells the history differently."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from bridge.answering.chat import JsonFormat, Tool, Tools
from bridge.answering.conversations import Conversations, Evaluation, Turn
from bridge.answering.messages import Message, Role, ToolCall, join_answers
from bridge.answering.tools.instructions import instructions
from bridge.answering.transcript import prompt
from upstream.protocol.files import File

LOOK, GO = ToolCall("call_1", "look", '{"at": "it", "n": 3}'), ToolCall("call_2", "go", "{}")
TOLD = "# Tools"


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str, *calls: ToolCall) -> Message:
    return Message("assistant", text, tool_calls=calls)


def result(text: str, call_id: str | None, name: str | None = None) -> Message:
    return Message("tool", text, name, tool_call_id=call_id)


@dataclass
class Table:
    """A table of conversations, used as the relay does."""

    conversations: Conversations = field(default_factory=lambda: Conversations(1000))
    _ids: Any = field(default_factory=lambda: count(1))

    def take(self, messages: list[Message], told: str = TOLD) -> Turn:
        return self.conversations.take("key", "model", join_answers(tuple(messages)), lambda _: True, told)

    def talk(self, messages: list[Message], text: str, *calls: ToolCall, told: str = TOLD) -> str:
        """Run a whole turn, answered by a text and calls; return its evaluation's id."""
        turn = self.take(messages, told)
        id_ = turn.evaluation.id if turn.evaluation else f"evaluation-{next(self._ids)}"
        answered = turn.answered(text, calls)
        self.conversations.put(Evaluation(id_, "ada", "answer", turn.asked, answered, turn.instructions))
        if turn.evaluation:
            self.conversations.release(turn.evaluation)
        return id_

    def where(self, messages: list[Message], told: str = TOLD) -> tuple[str, str]:
        """Return what a request would be and why; the table stays unchanged."""
        turn = self.take(messages, told)
        if turn.evaluation:
            self.conversations.release(turn.evaluation)
            self.conversations.put(turn.evaluation)
        return turn.kind, turn.why


FIRST = [user("Look, then go.")]
ANSWER = assistant("Let me see.", LOOK, GO)
RESULTS = [result("blue", "call_1"), result("gone", "call_2")]


@pytest.fixture
def table() -> Table:
    table = Table()
    table.talk(FIRST, "Let me see.", LOOK, GO)
    return table


TURNS: dict[str, list[Message]] = {
    "the results": RESULTS,
    "the results the other way round": RESULTS[::-1],
    "one result": RESULTS[:1],
    "the results and a question": [*RESULTS, user("And?")],
    "a question instead": [user("Stop.")],
    "by name": [result("blue", None, "look"), result("gone", None, "go")],
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_tool_results_and_a_question_can_be_sent_alone_as_a_follow_up(table: Table, turn: list[Message]) -> None:
    assert table.where([*FIRST, ANSWER, *turn]) == ("follow-up", "known")


OTHER_SHAPES: dict[str, list[Message]] = {
    "a question before the results": [user("And?"), *RESULTS],
    "two questions": [*RESULTS, user("And?"), user("Well?")],
    "a question by name": [*RESULTS, Message("user", "And?", "Ada")],
    "a blank question": [*RESULTS, user(" ")],
    "an instruction": [*RESULTS, Message("system", "Be brief.")],
    "a result of no call": [result("red", "call_9")],
    "a result among others of no call": [*RESULTS, result("red", "call_9")],
    "nothing": [],
}


@pytest.mark.parametrize("turn", OTHER_SHAPES.values(), ids=OTHER_SHAPES)
def test_a_turn_of_another_shape_begins_a_new_conversation(table: Table, turn: list[Message]) -> None:
    assert table.where([*FIRST, ANSWER, *turn]) == ("new", "shape")


def test_a_result_of_an_earlier_call_begins_a_new_conversation(table: Table) -> None:
    messages = [*FIRST, ANSWER, *RESULTS]
    table.talk(messages, "Done.")
    assert table.where([*messages, assistant("Done."), result("blue", "call_1")]) == ("new", "shape")


def spelled(**other: Any) -> Message:
    return assistant("Let me see.", LOOK._replace(**other), GO)


#: Changes that clients make between two turns.
SAME: dict[str, list[Message]] = {
    "white space in arguments": [spelled(arguments='{"at":"it","n":3}'), *RESULTS],
    "the order of arguments": [spelled(arguments='{"n": 3, "at": "it"}'), *RESULTS],
    "a whole number as a float": [spelled(arguments='{"at": "it", "n": 3.0}'), *RESULTS],
    "ids": [
        assistant("Let me see.", LOOK._replace(id="a"), GO._replace(id="b")),
        result("blue", "a"),
        result("gone", "b"),
    ],
    "white space around the text": [assistant("\n Let me see. \n", LOOK, GO), *RESULTS],
    "reasoning before the text": [assistant("<think>hm</think>Let me see.", LOOK, GO), *RESULTS],
    "text and calls as two items": [assistant("Let me see."), assistant("", LOOK, GO), *RESULTS],
    "each call an item": [assistant("Let me see."), assistant("", LOOK), assistant("", GO), *RESULTS],
    "text and a call, and another call": [assistant("Let me see.", LOOK), assistant(" \n", GO), *RESULTS],
    "a name in a result": [ANSWER, result("blue", "call_1", "look"), result("gone", "call_2", "go")],
    "an empty message, of a stream that broke off, before": [assistant(""), ANSWER, *RESULTS],
    "an empty message before text and calls as two items": [
        assistant(" "),
        assistant("Let me see."),
        assistant("", LOOK, GO),
        *RESULTS,
    ],
    "an empty message behind": [ANSWER, assistant("\n"), *RESULTS],
}


@pytest.mark.parametrize("messages", SAME.values(), ids=SAME)
def test_harmless_changes_that_clients_make_between_two_turns_are_ignored(
    table: Table, messages: list[Message]
) -> None:
    assert table.where([*FIRST, *messages]) == ("follow-up", "known")
    table.talk([*FIRST, *messages], "Done.")
    seen = [*FIRST, ANSWER, *RESULTS, assistant("Done."), user("Thanks.")]
    assert table.where(seen) == ("follow-up", "known"), "and so it is one turn later, as it was"


EDITED: dict[str, list[Message]] = {
    "an argument": [spelled(arguments='{"at": "them", "n": 3}'), *RESULTS],
    "an argument's type": [spelled(arguments='{"at": "it", "n": "3"}'), *RESULTS],
    "a tool's name": [spelled(name="stare"), *RESULTS],
    "a kind": [assistant("Let me see.", LOOK._replace(kind="custom"), GO), *RESULTS],
    "a call less": [assistant("Let me see.", LOOK), RESULTS[0]],
    "a call more": [assistant("Let me see.", LOOK, GO, GO._replace(id="call_3")), *RESULTS],
    "the order of calls": [assistant("Let me see.", GO, LOOK), *RESULTS],
    "the text": [assistant("Let us see.", LOOK, GO), *RESULTS],
    "no text": [assistant("", LOOK, GO), *RESULTS],
    "two texts": [assistant("Let me"), assistant("see.", LOOK, GO), *RESULTS],
    "a name": [ANSWER._replace(name="Eve"), *RESULTS],
}


@pytest.mark.parametrize("messages", EDITED.values(), ids=EDITED)
def test_an_edited_answer_with_calls_begins_a_new_conversation(table: Table, messages: list[Message]) -> None:
    assert table.where([*FIRST, *messages]) == ("new", "unknown")


EARLIER: dict[str, list[Message]] = {
    "a result": [ANSWER, result("red", "call_1"), RESULTS[1]],
    "results exchanged": [ANSWER, result("blue", "call_2"), result("gone", "call_1")],
    "results in another order": [ANSWER, *RESULTS[::-1]],
    "an argument": [spelled(arguments="{}"), *RESULTS],
}


@pytest.mark.parametrize("messages", EARLIER.values(), ids=EARLIER)
def test_an_edited_history_of_calls_and_results_begins_a_new_conversation(
    table: Table, messages: list[Message]
) -> None:
    table.talk([*FIRST, ANSWER, *RESULTS], "Done.")
    assert table.where([*FIRST, *messages, assistant("Done."), user("Thanks.")]) == ("new", "unknown")


def test_an_agent_of_fifty_steps_stays_in_one_evaluation() -> None:
    table, messages = Table(), list(FIRST)
    ids, kinds = set(), []
    for step in range(50):
        kinds.append(table.where(messages)[0])
        call = ToolCall(f"call_{step}", "look", f'{{"step": {step}}}')
        ids.add(table.talk(messages, "", call))
        again = call._replace(id=f"x{step}", arguments=f'{{"step":{step}.0}}')
        messages += [assistant("", again), result(f"seen {step}", f"x{step}")]
    assert (kinds, len(ids)) == (["new"] + ["follow-up"] * 49, 1)


# Tools, choice and format

LOOK_TOOL, GO_TOOL = Tool("look", "Looks.", {"type": "object"}), Tool("go")
BOTH = Tools((LOOK_TOOL, GO_TOOL), frozenset({"look", "go"}))
FORM = JsonFormat({"type": "object"}, "f")


def told(tools: Tools | None = BOTH, form: JsonFormat | None = FORM) -> str:
    return instructions(tools, form)


OTHERWISE: dict[str, str] = {
    "no tools": told(None),
    "no format": told(form=None),
    "neither": told(None, None),
    "a tool less": told(Tools((LOOK_TOOL,), frozenset({"look"}))),
    "other parameters": told(BOTH._replace(tools=(LOOK_TOOL._replace(parameters={}), GO_TOOL))),
    "required": told(BOTH._replace(required=True)),
    "one by name": told(BOTH._replace(required=True, allowed=frozenset({"go"}))),
    "one at a time": told(BOTH._replace(parallel=False)),
    "another schema": told(form=JsonFormat({"type": "array"}, "f")),
    "another name": told(form=JsonFormat({"type": "object"}, "g")),
}


@pytest.mark.parametrize("otherwise", OTHERWISE.values(), ids=OTHERWISE)
def test_different_tools_or_another_format_begin_a_new_conversation(otherwise: str) -> None:
    table = Table()
    table.talk(FIRST, "Let me see.", LOOK, GO, told=told())
    messages = [*FIRST, ANSWER, *RESULTS]
    assert table.where(messages, told()) == ("follow-up", "known")
    assert table.where(messages, otherwise) == ("new", "tools")
    assert table.where(FIRST, told()) == ("regenerate", "repeated")
    assert table.where(FIRST, otherwise) == ("new", "tools")


def test_conversations_that_differ_only_in_their_tools_keep_separate_evaluations() -> None:
    table = Table()
    ids = [table.talk(FIRST, "Let me see.", LOOK, GO, told=each) for each in (told(), told(None))]
    messages = [*FIRST, ANSWER, *RESULTS]
    assert [table.talk(messages, "Done.", told=each) for each in (told(), told(None))] == ids


def test_an_evaluation_with_instructions_survives_a_json_round_trip() -> None:
    evaluation = Evaluation("id", "ada", "answer", "asked", ("answered", "too"), "told")
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert Evaluation.from_json(["id", "ada", "answer", "asked", "answered"]).instructions == ""
    with pytest.raises(ValueError, match="strings"):
        Evaluation.from_json(["id", "ada", "answer", ["asked", 1], "answered"])
    with pytest.raises(ValueError, match="strings"):
        Evaluation.from_json(["id", "ada", "answer", ["asked", "told", "more"], "answered"])


# Every field

PNG, JPEG = File(b"a", "image/png", "aa", "a.png"), File(b"b", "image/jpeg", "bb", "b.jpg")
CALL: dict[str, tuple[Any, Any]] = {
    "id": ("call_1", "call_2"),
    "name": ("look", "go"),
    "arguments": ('{"a":1}', '{"a":2}'),
    "kind": ("function", "custom"),
}
MESSAGE: dict[str, tuple[Any, Any]] = {
    "role": ("user", "assistant"),
    "text": ("a", "b"),
    "name": (None, "Ada"),
    "tool_calls": ((), (LOOK,)),
    "tool_call_id": ("call_1", "call_2"),
    "files": ((), (PNG,)),
}
TOOL: dict[str, tuple[Any, Any]] = {
    "name": ("look", "go"),
    "description": ("", "Looks."),
    "parameters": (None, {}),
    "kind": ("function", "custom"),
    "grammar": ("", "a+"),
    "checkable": (True, False),
}
TOOLS: dict[str, tuple[Any, Any]] = {
    "tools": (BOTH.tools, BOTH.tools[::-1]),
    "allowed": (BOTH.allowed, frozenset({"look"})),
    "required": (False, True),
    "parallel": (True, False),
}
FORMAT: dict[str, tuple[Any, Any]] = {
    "schema": (None, {}),
    "name": ("", "f"),
    "strict": (False, True),
    "description": ("", "A form."),
}
#: Fields in neither the prompt nor the digest: they only say how an answer is checked.
NOT_SHOWN = {("Tool", "checkable"), ("JsonFormat", "strict")}
#: Fields that only the prompt shows: ids are labels, and a result counts by the call that it answers.
LABELS = {("ToolCall", "id"), ("Message", "tool_call_id")}


def test_the_test_tables_name_every_field() -> None:
    for kind, row in ((ToolCall, CALL), (Message, MESSAGE), (Tool, TOOL), (Tools, TOOLS), (JsonFormat, FORMAT)):
        assert tuple(row) == kind._fields


def histories(kind: str, field: str) -> list[tuple[list[Message], str]]:
    """Return requests that differ in one field only."""
    if kind == "ToolCall":
        calls = [LOOK._replace(**{field: value}) for value in CALL[field]]
        return [([user("hi"), assistant("", call), user("so?")], "") for call in calls]
    if kind == "Message":
        role: Role = "tool" if field == "tool_call_id" else "assistant" if field == "tool_calls" else "user"
        messages = [Message(role, "hi")._replace(**{field: value}) for value in MESSAGE[field]]
        called = assistant("", LOOK, GO._replace(name="look"))
        return [([called, each, user("so?")], "") for each in messages]
    if kind == "Tool":
        base = Tool("look", kind="custom" if field == "grammar" else "function")
        tools = [base._replace(**{field: value}) for value in TOOL[field]]
        return [([user("hi")], instructions(Tools((tool,), frozenset({tool.name})), None)) for tool in tools]
    if kind == "Tools":
        return [([user("hi")], instructions(BOTH._replace(**{field: value}), None)) for value in TOOLS[field]]
    forms = [JsonFormat()._replace(**{field: value}) for value in FORMAT[field]]
    return [([user("hi")], instructions(None, form)) for form in forms]


FIELDS = [(kind.__name__, name) for kind in (ToolCall, Message, Tool, Tools, JsonFormat) for name in kind._fields]


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_the_digest_covers_exactly_the_fields_that_the_prompt_shows(kind: str, name: str) -> None:
    (one, told_one), (other, told_other) = histories(kind, name)
    shown = prompt(one, told_one) != prompt(other, told_other)
    turns = [Table().take(one, told_one), Table().take(other, told_other)]
    counted = len({(turn.asked, turn.instructions) for turn in turns}) == 2
    if (kind, name) in NOT_SHOWN:
        assert (shown, counted) == (False, False)
    elif (kind, name) == ("ToolCall", "id"):
        assert (shown, counted) == (False, False), "a call's id stands in its result alone"
    elif (kind, name) == ("Message", "files"):
        assert counted
    else:
        assert (shown, counted) == (True, True)


def test_a_tool_result_s_id_does_not_change_the_digest() -> None:
    """The id is shown as the client spelled it; what counts is the call that the result answers."""
    one = [user("hi"), assistant("", LOOK), result("blue", "call_1")]
    other = [user("hi"), assistant("", LOOK._replace(id="x")), result("blue", "x")]
    assert prompt(one).replace("call_1", "x") == prompt(other)
    assert Table().take(one).asked == Table().take(other).asked


def test_different_attached_files_change_the_digest() -> None:
    digests = {
        Table().take([Message("user", "see", files=files)]).asked for files in ((PNG,), (JPEG,), (PNG, JPEG), ())
    }
    assert len(digests) == 4
