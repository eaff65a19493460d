"""The table of conversations: an evaluation is found by exactly the messages its model has seen, one turn at a time."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from examples import a_share
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.answering.conversations import Conversations, Evaluation, Turn, comparable, without_footnotes
from bridge.answering.messages import Message, ToolCall
from bridge.answering.transcript import prompt
from bridge.state.conversations import SavedConversations, conversations_document, kept_conversations
from bridge.state.documents import StateFolder
from upstream.protocol.files import File

KEY, MODEL, ACCOUNT = "key-1", "model-1", "ada"


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


FIRST = [user("Hello")]
SECOND = [*FIRST, assistant("Hi!"), user("More")]
THIRD = [*SECOND, assistant("Fine."), user("And?")]


class Table:
    """A table of conversations, used as the relay does. All accounts are usable except those in `resting`."""

    def __init__(self, capacity: int = 100) -> None:
        self.conversations = Conversations(capacity)
        self.resting: set[str] = set()
        self._ids = (f"evaluation-{number}" for number in count(1))

    def take(self, messages: list[Message], key: str = KEY, model: str = MODEL) -> Turn:
        return self.conversations.take(key, model, messages, lambda user_id: user_id not in self.resting)

    def answer(self, turn: Turn, text: str, account: str = ACCOUNT) -> str:
        """Finish the turn with a complete answer and return its evaluation's id."""
        taken = turn.evaluation
        id_ = taken.id if taken else next(self._ids)
        self.conversations.put(Evaluation(id_, account, f"answer-{id_}", turn.asked, turn.answered(text)))
        if taken:
            self.conversations.release(taken)
        return id_

    def talk(self, messages: list[Message], text: str) -> str:
        """Run a whole turn and return its evaluation's id."""
        return self.answer(self.take(messages), text)

    def where(self, messages: list[Message], key: str = KEY, model: str = MODEL) -> tuple[str, str, str | None]:
        """Return what a request would be, why, and which evaluation it would continue; the table stays unchanged."""
        turn = self.take(messages, key, model)
        if turn.evaluation is None:
            return turn.kind, turn.why, None
        self.conversations.release(turn.evaluation)
        self.conversations.put(turn.evaluation)
        return turn.kind, turn.why, turn.evaluation.id


@pytest.fixture
def table() -> Table:
    return Table()


def test_the_follow_ups_of_a_conversation_stay_in_its_evaluation(table: Table) -> None:
    assert table.where(FIRST) == ("new", "first", None)
    id_ = table.talk(FIRST, "Hi!")
    assert table.where(SECOND) == ("follow-up", "known", id_)
    assert table.talk(SECOND, "Fine.") == id_
    assert table.where(THIRD) == ("follow-up", "known", id_)
    assert len(table.conversations) == 1


def test_a_repeated_request_is_a_regenerate(table: Table) -> None:
    id_ = table.talk(FIRST, "Hi!")
    assert table.where(FIRST) == ("regenerate", "repeated", id_)
    assert table.talk(FIRST, "Hello there!") == id_
    assert table.where(SECOND) == ("new", "unknown", None), "its model has forgotten the first answer"
    assert table.where([*FIRST, assistant("Hello there!"), user("More")]) == ("follow-up", "known", id_)


LOOK = ToolCall("call-1", "look", "{}")
OTHERS: dict[str, tuple[list[Message], str]] = {
    "a first message edited": ([user("Hello!"), *SECOND[1:]], "unknown"),
    "white space in a user's message": ([user("Hello "), *SECOND[1:]], "unknown"),
    "an answer edited": ([SECOND[0], assistant("Hi?"), SECOND[2]], "unknown"),
    "a system message before": ([system("Be kind."), *SECOND], "unknown"),
    "a system message behind": ([*SECOND, system("Be kind.")], "shape"),
    "a role changed": ([system("Hello"), *SECOND[1:]], "unknown"),
    "a name given": ([SECOND[0]._replace(name="Ada"), *SECOND[1:]], "unknown"),
    "a tool called": ([SECOND[0], SECOND[1]._replace(tool_calls=(LOOK,)), SECOND[2]], "unknown"),
    "an answer deleted": ([SECOND[0], SECOND[2]], "first"),
    "a turn behind": ([*SECOND, assistant("?"), user("!")], "unknown"),
    "two user messages behind the answer": ([*SECOND, user("Please")], "shape"),
    "a last message by name": ([*SECOND[:2], SECOND[2]._replace(name="Ada")], "shape"),
    "a last message with a tool call": ([*SECOND[:2], SECOND[2]._replace(tool_calls=(LOOK,))], "shape"),
    "a last message for a tool call": ([*SECOND[:2], SECOND[2]._replace(tool_call_id="call-1")], "shape"),
    "a last message of blanks": ([*SECOND[:2], user(" \n")], "shape"),
    "the answer at the end": (SECOND[:2], "shape"),
    "a tool's result at the end": ([*SECOND[:2], Message("tool", "blue", tool_call_id="call-1")], "shape"),
}


@pytest.mark.parametrize(("messages", "why"), OTHERS.values(), ids=OTHERS)
def test_different_messages_begin_a_new_conversation(table: Table, messages: list[Message], why: str) -> None:
    table.talk(FIRST, "Hi!")
    assert table.where(messages) == ("new", why, None)


def test_another_key_or_model_begins_a_new_conversation(table: Table) -> None:
    table.talk(FIRST, "Hi!")
    for key, model in (("key-2", MODEL), (KEY, "model-2")):
        assert table.where(FIRST, key, model) == ("new", "first", None)
        assert table.where(SECOND, key, model) == ("new", "unknown", None)


RETURNED: dict[str, tuple[str, str]] = {
    "white space around it": ("Hi!", "\n Hi! \n"),
    "white space taken off": ("  Hi!\n\n", "Hi!"),
    "reasoning put before it": ("Hi!", "<think>\nlong\n</think>\n\nHi!"),
    "reasoning in a fold": ("Hi!", '<details type="reasoning" done="true">\n> long\n</details>Hi!'),
    "reasoning taken off": ("<thinking>long</thinking>Hi!", "Hi!"),
    "footnotes taken off": ("Hi![1]\n\n[1]: https://example.org/a\n[^2]: b\n", "Hi![1]"),
    "footnotes left": ("Hi![1]\n\n[1]: https://example.org/a", "Hi![1]\n\n[1]: https://example.org/a"),
    "all of it taken off": ("<think>long</think> Hi!\n[1]: https://example.org/a", "Hi!"),
    "nothing but white space": (" \n", ""),
}


@pytest.mark.parametrize(("given", "returned"), RETURNED.values(), ids=RETURNED)
def test_an_answer_is_recognised_in_the_forms_that_clients_return(table: Table, given: str, returned: str) -> None:
    id_ = table.talk(FIRST, given)
    messages = [*FIRST, assistant(returned), user("More")]
    assert table.where(messages) == ("follow-up", "known", id_)
    table.talk(messages, "Fine.")
    assert table.where([*messages, assistant("Fine."), user("And?")]) == ("follow-up", "known", id_)


EDITED: dict[str, tuple[str, str]] = {
    "a footnote": ("Hi![1]\n[1]: https://example.org/a", "Hi![1]\n[1]: https://example.org/b"),
    "a footnote put there": ("Hi!", "Hi!\n[1]: https://example.org/b"),
    "one footnote of two": ("Hi!\n[1]: a\n[2]: b", "Hi!\n[1]: a"),
    "nothing but a footnote": ("[1]: a", ""),
    "white space inside": ("Hi  there", "Hi there"),
    "what only looks like reasoning": ("Say <think>a</think>.", "Say <think>b</think>."),
    "reasoning without its end": ("<think>a", "<think>b"),
}


@pytest.mark.parametrize(("given", "returned"), EDITED.values(), ids=EDITED)
def test_an_edited_answer_begins_a_new_conversation(table: Table, given: str, returned: str) -> None:
    table.talk(FIRST, given)
    assert table.where([*FIRST, assistant(returned), user("More")]) == ("new", "unknown", None)


@pytest.mark.parametrize("text", ["\n" * 10**6, "<think>" * 10**5, "<think></think>" * 10**5, "\n[1]: x" * 10**5])
def test_answers_are_normalised_for_comparison_in_linear_time(text: str) -> None:
    """A search with patterns would take quadratic time: hours, for these texts."""
    for edge in ("", "a"):
        assert len(without_footnotes(comparable(edge + text + edge))) <= len(text) + 2


def test_a_busy_evaluation_is_not_used_for_another_request(table: Table) -> None:
    id_ = table.talk(FIRST, "Hi!")
    turn = table.take(SECOND)
    assert turn.evaluation is not None
    assert len(table.conversations) == 0
    assert table.where(SECOND) == ("new", "busy", None)
    assert table.where([*SECOND[:2], user("Else")]) == ("new", "busy", None)
    assert table.answer(turn, "Fine.") == id_
    assert table.where([*SECOND[:2], user("Else")]) == ("new", "unknown", None)
    assert table.where(THIRD) == ("follow-up", "known", id_)


def test_an_evaluation_released_after_a_failed_turn_is_forgotten(table: Table) -> None:
    table.talk(FIRST, "Hi!")
    taken = table.take(SECOND).evaluation
    assert taken is not None
    table.conversations.release(taken)
    assert table.where(SECOND) == ("new", "unknown", None)
    assert table.where(FIRST) == ("new", "first", None)


def test_a_turn_that_gives_up_its_evaluation_begins_a_new_conversation(table: Table) -> None:
    table.talk(FIRST, "Hi!")
    turn = table.take(SECOND)
    turn.start_anew("gone")
    assert (turn.kind, turn.why, turn.evaluation) == ("new", "gone", None)


def test_conversations_with_equal_histories_keep_separate_evaluations(table: Table) -> None:
    first, second = table.take(FIRST), table.take(FIRST)
    ids = {table.answer(first, "Hi!"), table.answer(second, "Hi!")}
    turns = [table.take(SECOND), table.take(SECOND), table.take(SECOND)]
    assert [turn.kind for turn in turns] == ["follow-up", "follow-up", "new"]
    assert {turn.evaluation.id for turn in turns if turn.evaluation} == ids
    assert turns[2].why == "busy"


def test_a_follow_up_continues_the_latest_evaluation_whose_account_is_usable(table: Table) -> None:
    turns = [table.take(FIRST) for _ in range(3)]
    by_ada, by_bob, by_eve = (
        table.answer(turn, "Hi!", who) for turn, who in zip(turns, ("ada", "bob", "eve"), strict=True)
    )
    assert table.where(SECOND)[2] == by_eve
    table.resting = {"eve"}
    assert table.where(SECOND)[2] == by_bob
    table.resting = {"eve", "bob"}
    assert table.where(SECOND)[2] == by_ada
    table.resting = {"eve", "bob", "ada"}
    assert table.where(SECOND) == ("new", "account", None)
    table.resting = set()
    assert table.where(SECOND)[0] == "follow-up", "an account that rested is known again"


def test_an_evaluation_with_a_repeated_answer_digest_can_be_dropped() -> None:
    conversations = Conversations(capacity=1)
    conversations.put(Evaluation("one", ACCOUNT, "answer", "asked", ("answered", "answered")))
    conversations.put(Evaluation("other", ACCOUNT, "answer", "else", ("answered so",)))
    assert [evaluation.id for evaluation in conversations] == ["other"]


def test_the_least_recently_used_evaluation_is_dropped_first() -> None:
    table = Table(capacity=2)
    table.talk([user("a")], "A")
    table.talk([user("b")], "B")
    table.talk([user("a"), assistant("A"), user("c")], "C")
    table.talk([user("d")], "D")
    assert len(table.conversations) == 2
    assert table.where([user("b"), assistant("B"), user("?")]) == ("new", "unknown", None)
    assert table.where([user("a"), assistant("A"), user("c"), assistant("C"), user("?")])[0] == "follow-up"


def test_a_dropped_evaluation_leaves_nothing_in_the_indexes() -> None:
    table = Table(capacity=3)
    for number in range(20):
        table.talk([user(str(number))], "Hi!\n[1]: a")
        table.talk([user(str(number)), assistant("Hi!"), user("More")], "Fine.")
    conversations = table.conversations
    assert len(conversations) == len(conversations._asked) == len(conversations._answered) == 3
    assert not conversations._busy


# Restarts


async def test_conversations_survive_a_clean_stop(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    async with kept_conversations(folder) as conversations:
        table = Table()
        table.conversations = conversations
        ids = [table.talk([user(text)], "Hi!\n[1]: a") for text in "abc"]
        before = list(conversations)
    async with kept_conversations(folder) as conversations:
        assert list(conversations) == before, "in order, too"
        table.conversations = conversations
        assert table.where([user("a"), assistant("Hi!"), user("More")]) == ("follow-up", "known", ids[0])


async def test_saved_conversations_are_cleared_on_start_so_that_a_kill_leaves_none(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    async with kept_conversations(folder) as conversations:
        conversations.put(Evaluation("id", ACCOUNT, "answer", "asked", ("answered",)))
    async with kept_conversations(folder) as conversations:
        assert len(conversations) == 1
        assert await conversations_document(folder).load() == SavedConversations(), "a kill now leaves this"


@a_share(of=10)
@given(
    st.builds(
        Evaluation,
        st.uuids().map(str),
        *[st.text(max_size=5)] * 3,
        answered=st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple),
    )
)
def test_an_evaluation_survives_a_json_round_trip(evaluation: Evaluation) -> None:
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        ["a", "b", "c", "d"],
        ["a", "b", "c", "d", 5],
        ["a", "b", "c", "d", "e", None],
        ["", "b", "c", "d", "e"],
        ["a a", "b", "c", "d", "e"],
    ],
)
def test_malformed_json_of_an_evaluation_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match="strings"):
        Evaluation.from_json(value)


# Digests

FILES = [File(b"a", "image/png", "aa", "a.png"), File(b"b", "application/pdf", "bb", "b.pdf")]
texts = st.text("ab[]: \n<>", max_size=4)
names = st.none() | texts
any_message = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    texts,
    names,
    st.lists(st.builds(ToolCall, texts, texts, texts), max_size=1).map(tuple),
    names,
    st.lists(st.sampled_from(FILES), max_size=2).map(tuple),
)
histories = st.lists(any_message, min_size=1, max_size=4)


def compared(messages: list[Message]) -> list[Message]:
    """Return the messages without the differences that do not count: ids are numbered, arguments spelled alike."""
    ids: dict[str | None, str] = {}
    found = []
    for message in messages:
        calls, before = [], dict(ids)
        for call in message.tool_calls:
            number = f"call {len(ids)}"
            ids[call.id or number] = number
            arguments = call.arguments  # free text for a custom tool, otherwise JSON
            if call.kind != "custom":
                arguments = call.arguments.strip() or "{}"
            calls.append(call._replace(id=number, arguments=arguments))
        text, name, call_id = message.text, message.name, None
        if message.role == "assistant":
            text = comparable(text)
        elif message.role == "tool":
            call_id = before.get(message.tool_call_id) or message.tool_call_id or None
            name = None if call_id in before.values() else name or None
        found.append(Message(message.role, text, name, tuple(calls), call_id, message.files))
    return found


@a_share(of=10)
@given(histories, histories)
def test_different_histories_have_different_digests(one: list[Message], other: list[Message]) -> None:
    """Histories are different if a model would be shown different prompts."""
    table = Table()
    assume(prompt(compared(one)) != prompt(compared(other)))
    turns = table.take(one), table.take(other)
    assert turns[0].asked != turns[1].asked
    assert not {*turns[0].answered("Hi!")} & {*turns[1].answered("Hi!")}


@a_share(of=10)
@given(histories, texts, texts.filter(str.strip), st.integers(min_value=0), any_message)
def test_a_request_is_a_follow_up_exactly_if_its_history_is_equal_and_its_last_message_is_sendable(
    seen: list[Message], answer: str, question: str, at: int, edited: Message
) -> None:
    """A request is a follow-up exactly if its earlier messages are equal and its last one can be sent alone."""
    table = Table()
    id_ = table.talk(seen, answer)
    messages = [*seen, assistant(answer), user(question)]
    assert table.where(messages) == ("follow-up", "known", id_)
    given = compared(messages[:-1])
    bare = compared([*seen, assistant(without_footnotes(comparable(answer)))])
    messages[at % len(messages)] = edited
    known = compared(messages[:-1]) in (given, bare)
    last = messages[-1]
    sendable = last._replace(files=()) == user(last.text) and bool(last.text.strip() or last.files)
    assert (table.where(messages)[0] == "follow-up") == (known and sendable)
