"""No model sees messages other than the request's: each test asks, and `Witness` checks every answer.

Everything that models are shown while a request is pending is compared with its messages. The tests add which
evaluation must answer, and that the bridge reports it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from caller import calling
from eras import ERAS
from frames import DONE
from leaving import nobody_returns
from request_log import RequestLog
from running import RunningBridge, api_key, running_bridge
from witness import JsonMessage, Reply, Witness, ask, assistant, user

from bridge.access.keys import KeyRing
from bridge.state.documents import StateFolder
from bridge.state.state import keys_document
from upstream.arena import Arena, Call

FIRST = ("new", "first")
UNKNOWN = ("new", "unknown")
FOLLOW_UP = ("follow-up", "known")
REGENERATE = ("regenerate", "repeated")


@dataclass
class Chat:
    """A client in the middle of a conversation: it sends its whole history each time."""

    bridge: RunningBridge
    witness: Witness
    stream: bool
    messages: list[JsonMessage] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    async def say(self, words: str = "") -> Reply:
        """Send the next turn."""
        self.messages.append(user(self.witness.text(words)))
        reply = await self.again()
        self.messages.append(reply.message)
        return reply

    async def again(self) -> Reply:
        """Send the messages as they are; the history is left to the caller."""
        return await ask(self.bridge, self.witness, self.messages, stream=self.stream, **self.options)

    def branch(self, messages: int, **options: Any) -> Chat:
        """Another conversation with the same first messages."""
        return Chat(self.bridge, self.witness, self.stream, self.messages[:messages], {**self.options, **options})


@pytest.fixture(params=ERAS)
async def arena(request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    async with Arena(era=request.param) as arena:
        yield arena


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def witness(arena: Arena) -> Witness:
    return Witness(arena)


@pytest.fixture
def chat(bridge: RunningBridge, witness: Witness, stream: bool) -> Chat:
    return Chat(bridge, witness, stream)


@pytest.fixture
async def two_accounts(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    sessions = (arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org"))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        yield bridge


@pytest.fixture
def shared(two_accounts: RunningBridge, witness: Witness, stream: bool) -> Chat:
    """A conversation on a bridge with a second account."""
    return Chat(two_accounts, witness, stream)


def calls(arena: Arena) -> list[Call]:
    """The calls about evaluations, without those that were refused only for their mode."""
    return [call for call in arena.chats if "mode is not allowed" not in (call.refusal or "")]


def lose_the_login(arena: Arena) -> None:
    """Make the site disown the login when it is asked whose login it is."""
    arena.faults.arm("expired", None, on="me" if arena.era == 2026 else "page")


def prompt(call: Call) -> str:
    return str(json.loads(call.body)["userMessage"]["content"])


def owner(arena: Arena, reply: Reply) -> str:
    return arena.evaluations[reply.evaluation].owner


# One conversation


async def test_only_the_last_turn_of_a_known_conversation_is_sent(arena: Arena, chat: Chat) -> None:
    chat.messages.append({"role": "system", "content": chat.witness.text("Be kind.")})
    replies = [await chat.say("你好 👋 \n") for _ in range(4)]
    assert [reply.place for reply in replies] == [FIRST, FOLLOW_UP, FOLLOW_UP, FOLLOW_UP]
    assert len({reply.evaluation for reply in replies}) == len(arena.evaluations) == 1
    assert [call.kind for call in calls(arena)] == ["create", "follow-up", "follow-up", "follow-up"]
    asked = [message["content"] for message in chat.messages if message["role"] == "user"]
    assert [prompt(call) for call in calls(arena)][1:] == asked[1:]


async def test_a_header_links_to_the_page_of_the_evaluation(arena: Arena, bridge: RunningBridge, stream: bool) -> None:
    async with await bridge.post(bridge.chat("Hello", stream=stream)) as response:
        (evaluation,) = arena.evaluations
        assert response.headers["x-bridge-conversation"] == "new; why=first"
        assert response.headers["x-bridge-evaluation"] == f"{arena.origin}/c/{evaluation}"


async def test_a_repeated_request_regenerates_the_answer(arena: Arena, chat: Chat) -> None:
    first = await chat.say()
    del chat.messages[-1]
    again = await chat.again()
    assert again.place == REGENERATE
    assert (again.evaluation, again.text == first.text) == (first.evaluation, False)
    assert calls(arena)[-1].body == b"{}"
    one_more = await chat.again()
    assert one_more.place == REGENERATE
    chat.messages.append(one_more.message)
    assert (await chat.say()).place == FOLLOW_UP
    assert len(arena.evaluations) == 1


async def test_an_answer_replaced_by_a_regeneration_is_not_continued(chat: Chat) -> None:
    first = await chat.say()
    del chat.messages[-1]
    await chat.again()
    chat.messages.append(first.message)
    assert (await chat.say()).place == UNKNOWN


async def test_a_regenerated_later_turn_can_be_continued(chat: Chat) -> None:
    await chat.say()
    await chat.say()
    del chat.messages[-1]
    chat.messages.append((await chat.again()).message)
    assert (await chat.say()).place == FOLLOW_UP


# Other messages


async def test_an_edited_message_starts_a_new_evaluation(chat: Chat) -> None:
    for at in range(4):
        edited = chat.branch(0)
        await edited.say()
        await edited.say()
        edited.messages[at] = {**edited.messages[at], "content": chat.witness.text("edited")}
        assert (await edited.say()).place == UNKNOWN
        assert (await edited.say()).place == FOLLOW_UP


async def test_an_edited_last_question_starts_a_new_evaluation(chat: Chat) -> None:
    """The evaluation still holds the question that was edited away, and its model would see it."""
    await chat.say()
    await chat.say()
    del chat.messages[2:]
    assert (await chat.say()).place == UNKNOWN


async def test_a_deleted_turn_starts_a_new_evaluation(chat: Chat) -> None:
    for _ in range(3):
        await chat.say()
    del chat.messages[2:4]
    assert (await chat.say()).place == UNKNOWN


async def test_a_changed_system_prompt_starts_a_new_evaluation(chat: Chat) -> None:
    for place in (FIRST, UNKNOWN):
        chat.messages[:1] = [{"role": "system", "content": chat.witness.text()}, *chat.messages[:1]]
        assert (await chat.say()).place == place
        del chat.messages[0]
    assert (await chat.say()).place == UNKNOWN, "without any"


async def test_a_switched_model_starts_a_new_evaluation(arena: Arena, chat: Chat) -> None:
    await chat.say()
    other = chat.branch(2, model=chat.bridge.model(thinking=True))
    assert (await other.say()).place == UNKNOWN
    assert (await chat.say()).place == FOLLOW_UP
    assert (await other.say()).place == FOLLOW_UP
    assert len(arena.evaluations) == 2


async def test_a_conversation_continues_under_the_models_other_names(arena: Arena, chat: Chat) -> None:
    await chat.say()
    id_ = arena.model(chat.bridge.model()).id
    for name in (id_, f"{chat.bridge.model()}@{id_[-4:]}"):
        chat.options["model"] = name
        assert (await chat.say()).place == FOLLOW_UP


async def test_another_key_has_conversations_of_its_own(chat: Chat) -> None:
    secret, key = api_key()
    chat.bridge.state.keys = KeyRing([*chat.bridge.state.keys, key])
    await chat.say()
    other = chat.branch(2, key=secret)
    assert (await other.say()).place == UNKNOWN
    assert (await chat.say()).place == FOLLOW_UP
    again = chat.branch(1, key=secret)
    assert (await again.again()).place == FIRST


TAILS: dict[str, list[dict[str, object]]] = {
    "an answer": [{"role": "user"}, {"role": "assistant"}],
    "two questions": [{"role": "user"}, {"role": "user"}],
    "three questions": [{"role": "user"}, {"role": "user"}, {"role": "user"}],
    "a question by name": [{"role": "user", "name": "Ada"}],
    "a system message at the end": [{"role": "user"}, {"role": "system"}],
    "a system message before the question": [{"role": "developer"}, {"role": "user"}],
    "a tool's result": [{"role": "tool", "tool_call_id": "call-1"}],
    "a tool called by the user": [{"role": "user", "tool_calls": ...}],
}
CALLED: list[dict[str, object]] = [
    {"role": "user"},
    {"role": "assistant", "tool_calls": ...},
    {"role": "tool", "tool_call_id": "call-1"},
]


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
async def test_a_tail_that_is_no_single_question_starts_a_new_evaluation(
    chat: Chat, tail: list[dict[str, object]]
) -> None:
    await chat.say()
    chat.messages += [marked(chat.witness, message) for message in tail]
    reply = await chat.again()
    assert reply.place == ("new", "shape")
    chat.messages.append(reply.message)
    assert (await chat.say()).place == FOLLOW_UP, "once the model has seen it, it is history like any other"


def marked(witness: Witness, message: dict[str, object]) -> JsonMessage:
    """The message with a unique text, or with unique arguments if it has a tool call."""
    function = {"name": "look", "arguments": json.dumps({"at": witness.text()}, ensure_ascii=False)}
    calls = {"tool_calls": [{"id": "call-1", "type": "function", "function": function}]}
    return {**message, "content": None, **calls} if "tool_calls" in message else {**message, "content": witness.text()}


async def test_tool_calls_and_results_are_part_of_the_compared_history(chat: Chat) -> None:
    chat.messages += [marked(chat.witness, message) for message in CALLED]
    reply = await chat.again()
    assert reply.place == UNKNOWN, "a result may follow up a call, but not one that no model of ours has made"
    chat.messages.append(reply.message)
    assert (await chat.say()).place == FOLLOW_UP
    chat.messages[1] = marked(chat.witness, CALLED[1])
    assert (await chat.say()).place == UNKNOWN


async def test_an_answer_sent_back_with_other_white_space_is_recognised(chat: Chat) -> None:
    await chat.say()
    for around in ("{}\n", "\n\n{}", "  {} "):
        chat.messages[-1] = assistant(around.format(chat.messages[-1]["content"]))
        assert (await chat.say()).place == FOLLOW_UP


# Long conversations


async def test_a_long_history_is_sent_upstream_only_once(arena: Arena, chat: Chat) -> None:
    for _ in range(100):
        chat.messages += [user(chat.witness.text("Why?" * 50)), assistant(chat.witness.text("Because." * 25))]
    assert (await chat.say()).place == UNKNOWN
    assert (await chat.say()).place == FOLLOW_UP
    assert len(prompt(calls(arena)[-1])) < 20


async def test_a_history_longer_than_the_site_accepts_is_not_sent(arena: Arena, chat: Chat) -> None:
    await chat.say()
    before = len(calls(arena))
    chat.messages += [user(chat.witness.text("x" * 60_000)), assistant(chat.witness.text("y" * 60_000))]
    reply = await chat.say()
    assert (reply.status, reply.code) == (400, "context_length_exceeded")
    assert len(calls(arena)) == before


async def test_a_known_conversation_may_grow_beyond_one_prompt(arena: Arena, chat: Chat) -> None:
    for place in (FIRST, FOLLOW_UP, FOLLOW_UP):
        assert (await chat.say("x" * 60_000)).place == place
    reply = await chat.branch(6).say("x" * 120_000)
    assert reply.code == "context_length_exceeded"
    assert (await chat.say()).place == FOLLOW_UP, "what was never sent has changed nothing"
    arena.evaluations.clear()
    assert (await chat.say()).code == "context_length_exceeded"


# Concurrent requests


async def test_conversations_with_the_same_first_message_stay_apart(arena: Arena, chat: Chat) -> None:
    chat.messages.append(user(chat.witness.text()))
    one, other = chat.branch(1), chat.branch(1)
    chat.witness.go_on = asyncio.Event()
    both = asyncio.gather(one.again(), other.again())
    await chat.witness.begun(2)
    chat.witness.go_on.set()
    for each, reply in zip((one, other), await both, strict=True):
        assert reply.place == FIRST
        each.messages.append(reply.message)
    assert len(arena.evaluations) == 2
    for _ in range(2):
        for each in (one, other):
            assert (await each.say()).place == FOLLOW_UP
    assert len(arena.evaluations) == 2


async def test_one_of_five_equal_concurrent_requests_follows_up_and_the_others_start_new_evaluations(
    arena: Arena, chat: Chat
) -> None:
    first = await chat.say()
    await chat.witness.begun()
    chat.messages.append(user(chat.witness.text()))
    chat.witness.go_on = asyncio.Event()
    asked = asyncio.gather(*(chat.branch(3).again() for _ in range(5)))
    await chat.witness.begun(5)
    chat.witness.go_on.set()
    replies = await asked
    assert sorted(reply.place for reply in replies) == [FOLLOW_UP, *[("new", "busy")] * 4]
    assert len({reply.text for reply in replies}) == 5
    assert len({reply.evaluation for reply in replies}) == len(arena.evaluations) == 5
    assert first.evaluation in arena.evaluations
    for reply in replies:
        each = chat.branch(3)
        each.messages.append(reply.message)
        answer = await each.say()
        assert (answer.place, answer.evaluation) == (FOLLOW_UP, reply.evaluation)


async def test_a_conversation_continues_in_a_new_evaluation_while_its_first_turn_is_regenerated(chat: Chat) -> None:
    await chat.say()
    await chat.witness.begun()
    chat.witness.go_on = asyncio.Event()
    asked = asyncio.gather(chat.branch(1).again(), chat.say())
    await chat.witness.begun(2)
    chat.witness.go_on.set()
    regenerated, following = await asked
    assert (regenerated.kind, following.place) == ("regenerate", ("new", "busy"))


async def test_the_next_turn_follows_up_as_soon_as_the_stream_has_ended(
    bridge: RunningBridge, witness: Witness
) -> None:
    """When the caller reads `[DONE]`, the first call still holds its upstream connection."""
    messages = [user(witness.text())]
    lingering = witness.let_go = asyncio.Event()
    async with calling(bridge.origin, bridge.key) as caller:
        with witness.expecting(messages):
            await caller.ask(bridge.chat(messages=messages, stream=True))
            body = await caller.sees(DONE)
        witness.let_go = None
        text = "".join(
            json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
            for line in body.splitlines()
            if line.startswith(b"data: {")
        )
        reply = await ask(bridge, witness, [*messages, assistant(text), user(witness.text())], stream=True)
        lingering.set()
    assert reply.place == FOLLOW_UP


# Restarts


@pytest.fixture
async def lasting_key(tmp_path: Path) -> str:
    """An API key that is valid in every daemon that uses the state folder."""
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    secret, key = api_key()
    await keys_document(folder).update(lambda keys: (*keys, key))
    return secret


async def test_conversations_survive_a_restart(
    arena: Arena, witness: Witness, tmp_path: Path, lasting_key: str, stream: bool
) -> None:
    sessions = (arena.sign_in(),)
    messages: list[JsonMessage] = []
    for place in (FIRST, FOLLOW_UP, FOLLOW_UP):
        async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
            chat = Chat(bridge, witness, stream, messages, {"key": lasting_key})
            assert (await chat.say()).place == place


async def test_conversations_are_not_continued_after_a_crash(
    arena: Arena, witness: Witness, tmp_path: Path, lasting_key: str, stream: bool
) -> None:
    """The state folder is copied while the daemon runs, as a kill would leave it: the evaluation may be ahead of it."""
    sessions = (arena.sign_in(),)
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        chat = Chat(bridge, witness, stream, options={"key": lasting_key})
        await chat.say()
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        chat.bridge = bridge
        before = chat.branch(2)
        assert (await chat.say()).place == FOLLOW_UP
        shutil.copytree(tmp_path / "state", tmp_path / "crashed")
    async with running_bridge(arena, tmp_path / "crashed", sessions=sessions) as bridge:
        for each in (before, chat):
            each.bridge = bridge
            assert (await each.say()).place == UNKNOWN
            assert (await each.say()).place == FOLLOW_UP


# Accounts and evaluations that disappear


async def test_a_conversation_stays_with_its_account(arena: Arena, shared: Chat) -> None:
    other = shared.branch(0)
    owners = [{owner(arena, await each.say()) for _ in range(3)} for each in (shared, other)]
    assert [len(each) for each in owners] == [1, 1]
    assert owners[0] != owners[1], "but conversations take turns"


@pytest.mark.parametrize("what", ["removed", "expired", "resting"])
async def test_a_conversation_moves_to_another_account_if_its_own_is_lost_between_turns(
    arena: Arena, shared: Chat, what: str
) -> None:
    first = await shared.say()
    pool = shared.bridge.state.pool
    account = pool.get(owner(arena, first))
    assert account is not None
    match what:
        case "removed":
            pool.load(each for each in pool if each != account)
        case "expired":
            pool.expire(account)
        case _:
            pool.cool_down(account, "chat", 60)
    second = await shared.say()
    assert second.place == ("new", "account")
    assert owner(arena, second) != owner(arena, first)
    assert (await shared.say()).place == FOLLOW_UP


@pytest.mark.parametrize("fault", ["expired", "rate_limited"])
async def test_a_conversation_moves_to_another_account_if_its_own_is_refused_during_a_turn(
    arena: Arena, shared: Chat, fault: str
) -> None:
    """After a genuine 401 or 429 to the follow-up, another account is sent the whole history."""
    first = await shared.say()
    arena.faults.arm(fault, on="follow-up")
    if fault == "expired":
        lose_the_login(arena)
    second = await shared.say()
    assert second.place == ("new", "account")
    assert owner(arena, second) != owner(arena, first)
    assert (await shared.say()).place == FOLLOW_UP
    assert [call.kind for call in calls(arena)] == ["create", "follow-up", "create", "follow-up"]


async def test_a_passing_401_leaves_the_turn_in_its_evaluation(arena: Arena, shared: Chat) -> None:
    """The site refuses the cookie once but confirms the login when asked, so the turn is sent again."""
    first = await shared.say()
    arena.faults.arm("expired", on="follow-up")
    second = await shared.say()
    assert (second.place, owner(arena, second)) == (FOLLOW_UP, owner(arena, first))
    assert [call.kind for call in calls(arena)] == ["create", "follow-up", "follow-up"]
    assert not any(account.expired for account in shared.bridge.state.pool)


async def test_an_evaluation_is_continued_once_its_account_is_usable_again(arena: Arena, shared: Chat) -> None:
    """The refused turn has not changed the evaluation."""
    first = await shared.say()
    arena.faults.arm("expired", on="follow-up")
    lose_the_login(arena)
    assert (await shared.branch(2).say()).place == ("new", "account")
    pool = shared.bridge.state.pool
    account = pool.get(owner(arena, first))
    assert account is not None
    pool.revive(account)
    reply = await shared.say()
    assert (reply.place, reply.evaluation) == (FOLLOW_UP, first.evaluation)


async def test_a_conversation_continues_after_the_cooldown_of_its_only_account(arena: Arena, chat: Chat) -> None:
    await chat.say()
    arena.faults.arm("rate_limited", on="follow-up", retry_after="30")
    reply = await chat.branch(2).say()
    assert (reply.status, reply.code) == (429, "upstream_rate_limited")
    pool = chat.bridge.state.pool
    pool.load([*map(rested, pool)])
    assert (await chat.say()).place == FOLLOW_UP


def rested(account: Any) -> Any:
    return type(account)(account.label, account.session)


async def test_conversations_continue_after_the_cookie_is_rotated(arena: Arena, chat: Chat) -> None:
    await chat.say()
    for pieces in (False, True):
        arena.faults.arm("rotate_cookie", pieces=pieces)
        assert (await chat.say()).place == FOLLOW_UP
        assert (await chat.say()).place == FOLLOW_UP


async def test_a_vanished_evaluation_is_replaced_by_a_new_one(arena: Arena, chat: Chat) -> None:
    await chat.say()
    arena.evaluations.clear()
    branch = chat.branch(2)
    assert (await chat.say()).place == ("new", "gone")
    assert (await chat.say()).place == FOLLOW_UP
    assert (await branch.say()).place == UNKNOWN, "it is not asked for twice"


async def test_an_evaluation_that_vanished_is_not_regenerated(arena: Arena, chat: Chat) -> None:
    await chat.say()
    arena.evaluations.clear()
    assert (await chat.branch(1).again()).place == ("new", "gone")


async def test_an_evaluation_that_the_site_ascribes_to_another_account_is_replaced(arena: Arena, chat: Chat) -> None:
    await chat.say()
    arena.faults.arm("wrong_account", on="follow-up")
    assert (await chat.say()).place == ("new", "gone")
    assert not any(account.expired for account in chat.bridge.state.pool)
    assert (await chat.say()).place == FOLLOW_UP


# First attempts that fail

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "503": ("server_error", {"status": 503}),
    "429, to be repeated at once": ("rate_limited", {"retry_after": "0"}),
}
POSSIBLY_ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "500": ("server_error", {"status": 500}),
    "502": ("server_error", {"status": 502}),
    "a3 first": ("model_failed_first", {}),
    "an empty answer": ("empty_answer", {}),
    "a reset without an answer": ("reset_before_headers", {}),
    "a close without an answer": ("close_before_headers", {}),
    "a reset before the first delta": ("reset_middle", {"after": 0}),
    "an end before the first delta": ("eof_middle", {"after": 0}),
    "a cut before the first delta": ("cut_chunked", {"after": 0}),
}
REJECTED = {"400": "rejected", "422": "moderated", "a challenge": "challenge", "a page": "html"}
BROKEN = {
    "a3": "model_failed_middle",
    "an end without a finish": "eof_middle",
    "a reset": "reset_middle",
    "a cut": "cut_chunked",
    "broken JSON": "broken_json",
}


@pytest.mark.parametrize(("fault", "parameters"), REFUSED.values(), ids=REFUSED)
async def test_a_refused_follow_up_is_repeated_in_its_evaluation(
    arena: Arena, chat: Chat, fault: str, parameters: dict[str, Any]
) -> None:
    first = await chat.say()
    arena.faults.arm(fault, on="follow-up", **parameters)
    reply = await chat.say()
    assert (reply.place, reply.evaluation) == (FOLLOW_UP, first.evaluation)
    bodies = [json.loads(call.body) for call in calls(arena)]
    ids = [body[name] for body in bodies for name in ("userMessageId", "modelAMessageId")]
    assert len(bodies) == 3
    assert sorted({*ids}) == ids, "each attempt has ids of its own, later than the last one's"
    assert (await chat.say()).place == FOLLOW_UP


@pytest.mark.parametrize(("fault", "parameters"), POSSIBLY_ACCEPTED.values(), ids=POSSIBLY_ACCEPTED)
@pytest.mark.parametrize("kind", ["follow-up", "regenerate"])
async def test_a_turn_that_the_site_may_have_accepted_is_repeated_in_a_new_evaluation(
    arena: Arena, chat: Chat, kind: str, fault: str, parameters: dict[str, Any]
) -> None:
    first = await chat.say()
    arena.faults.arm(fault, on=kind, **parameters)
    if kind == "regenerate":
        del chat.messages[-1]
        reply = await chat.again()
        chat.messages.append(reply.message)
    else:
        reply = await chat.say()
    assert reply.place == ("new", "uncertain")
    assert reply.evaluation != first.evaluation
    assert [call.kind for call in calls(arena)] == ["create", kind, "create"]
    second = await chat.say()
    assert (second.place, second.evaluation) == (FOLLOW_UP, reply.evaluation)


@pytest.mark.parametrize("fault", REJECTED.values(), ids=REJECTED)
async def test_a_conversation_starts_a_new_evaluation_after_a_rejected_turn(
    arena: Arena, chat: Chat, fault: str
) -> None:
    await chat.say()
    arena.faults.arm(fault, on="follow-up")
    assert (await chat.branch(2).say()).status >= 400
    assert (await chat.say()).place == UNKNOWN


async def test_a_turn_that_was_never_sent_leaves_the_evaluation_usable(arena: Arena, chat: Chat) -> None:
    await chat.say()
    _, _, port = arena.origin.rpartition(":")
    arena._port = int(port)
    await arena.stop()
    assert (await chat.branch(2).say()).status == 502
    await arena.start()
    assert (await chat.say()).place == FOLLOW_UP


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer_is_neither_continued_nor_regenerated(arena: Arena, chat: Chat, fault: str) -> None:
    await chat.say()
    arena.faults.arm(fault, on="follow-up", after=2)
    broken = await chat.say()
    assert broken.code == "upstream_error"
    del chat.messages[-1]
    assert (await chat.again()).place == UNKNOWN
    assert (await chat.branch(1).again()).place == FIRST, "nor is there anything to regenerate"
    if chat.stream:
        chat.messages.append(broken.message)
        assert (await chat.say()).place == UNKNOWN


# Callers that leave


async def test_an_answer_whose_caller_left_is_not_continued(
    arena: Arena, bridge: RunningBridge, witness: Witness, stream: bool, request_log: RequestLog
) -> None:
    """An abandoned answer is never continued, whether it was to the first turn or a later one."""
    chat = Chat(bridge, witness, stream)
    for place in (FIRST, UNKNOWN):
        chat.messages.append(user(witness.text()))
        witness.go_on = asyncio.Event()
        with witness.expecting(chat.messages):
            async with calling(bridge.origin, bridge.key) as caller:
                await caller.ask(bridge.chat(messages=chat.messages, stream=stream))
                await witness.begun()
                if stream:
                    await caller.sees("«".encode())
                caller.vanish()
                await nobody_returns(bridge)
                await asyncio.wait_for(calls(arena)[-1].closed.wait(), 10)
            await request_log.line()
        witness.go_on = None
        reply = await chat.again()
        assert reply.place == place
        chat.messages.append(reply.message)
        await witness.begun()
        await request_log.line()
    assert bridge.calls_held == 0
