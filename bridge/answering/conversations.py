"""Which evaluation a request continues: a table of digests, bounded and free of I/O.

OpenAI's API is stateless, LMArena's is not. An evaluation is reused only if a model that continues it sees exactly the
request's messages. `asked` is the digest of all messages up to and including its last turn, `answered` is the digest of
those and the answer, and `instructions` that of what it was told about tools and formats. An evaluation leaves the
table when it is taken for a turn, and returns after a complete answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import orjson

from bridge.answering.messages import Message, ToolCall, start_of_turn
from bridge.answering.tools.calls import CallsSoFar, compared_call

TurnKind: TypeAlias = Literal["new", "follow-up", "regenerate"]

#: The number of evaluations kept, of about a kilobyte each; the least recently used are evicted first.
CAPACITY: Final = 100_000

_DIGEST_CHARS: Final = 32

#: Reasoning that some clients put before an answer, and others remove. Only for `match`: `search` would take time that
#: grows with the square of the text.
_REASONING: Final = re.compile(
    r'\s*(?:<(think|thinking|reasoning)>.*?</\1>|<details type="reasoning".*?</details>)', re.DOTALL
)
_FOOTNOTE: Final = re.compile(r"\s*\[\^?\w{1,8}\]: ")


class Evaluation(NamedTuple):
    """An evaluation between two turns: its account, the id of its last answer, and digests of what it was shown.

    `answered` has a digest for each form in which clients may send the answer back. `instructions` is a digest too, or
    '' if there were none.
    """

    id: str
    user_id: str
    message_id: str
    asked: str
    answered: tuple[str, ...]
    instructions: str = ""

    def to_json(self) -> list[str | list[str]]:
        """Return JSON values for the state file."""
        asked = [self.asked, self.instructions] if self.instructions else self.asked
        return [self.id, self.user_id, self.message_id, asked, *self.answered]

    @classmethod
    def from_json(cls, value: object) -> Evaluation:
        """Read what `to_json` wrote. Raises ValueError if it is malformed."""
        if isinstance(value, list) and len(value) > 4:
            id_, user_id, message_id, asked, *answered = value
            asked, instructions = asked if isinstance(asked, list) and len(asked) == 2 else (asked, "")
            found = cls(id_, user_id, message_id, asked, tuple(answered), instructions)
            if all(isinstance(each, str) for each in (*found[:4], *answered, instructions)) and id_.split() == [id_]:
                return found
        raise ValueError("an evaluation needs at least five strings, the first of them one word")


@dataclass(slots=True)
class Turn:
    """One request's place in a conversation: the evaluation that it continues, if any, and the reason for that."""

    kind: TurnKind
    why: str
    evaluation: Evaluation | None
    #: The digest of all of the request's messages.
    asked: str
    _history: hashlib._Hash = field(repr=False)
    #: The digest of what the model is told about tools and formats; '' if it is told nothing.
    instructions: str = ""

    @classmethod
    def standalone(cls) -> Turn:
        """Make a turn that neither continues a conversation nor begins one."""
        return cls("new", "apart", None, "", hashlib.sha256())

    def answered(self, text: str, calls: tuple[ToolCall, ...] = ()) -> tuple[str, ...]:
        """Compute the digests of the request's messages with the answer, as given and without its footnotes."""
        text = comparable(text)
        bare = without_footnotes(text)
        answered = self._followed_by(text, calls)
        return (answered,) if bare == text else (answered, self._followed_by(bare, calls))

    def _followed_by(self, text: str, calls: tuple[ToolCall, ...]) -> str:
        history = self._history.copy()
        _update(history, [Message("assistant", text, tool_calls=calls)], CallsSoFar())
        return _digest(history)

    def start_anew(self, why: str) -> None:
        """Give up the evaluation: the whole history will be sent to a new one."""
        self.kind, self.why, self.evaluation = "new", why, None


#: The result of looking up a digest: an evaluation that may be taken, or why there is none.
Found: TypeAlias = Evaluation | Literal["unknown", "busy", "account", "tools"]


class Lookup(NamedTuple):
    """The digests by which a request can be found, and its turn, which is a new one until something is found.

    `before` is the digest of the messages before the turn, or '' if the turn cannot be sent by itself. `odd` says that
    the turn, which follows other messages, is neither a user message nor tool results.
    """

    turn: Turn
    before: str
    odd: bool


def look_up(key_id: str, model_id: str, messages: Sequence[Message], instructions: str) -> Lookup:
    """Compute the digests of a request's messages, and of the `instructions` about tools and formats."""
    history, calls = hashlib.sha256(orjson.dumps([key_id, model_id])), CallsSoFar()
    start = start_of_turn(messages)
    earlier, turn = messages[:start], messages[start:]
    _update(history, earlier, calls)
    follows_up = _follows_up(earlier, turn)
    before = _digest(history) if follows_up else ""
    _update(history, turn, calls)
    instructions_digest = hashlib.sha256(instructions.encode()).hexdigest()[:_DIGEST_CHARS] if instructions else ""
    odd = not follows_up and len(messages) > 1 and start > 0
    return Lookup(Turn("new", "first", None, _digest(history), history, instructions_digest), before, odd)


def settle(lookup: Lookup, repeated: Found, known: Found) -> Turn:
    """Decide on a request's turn: `repeated` was found by all of its messages, `known` by those before its turn."""
    turn, found = lookup.turn, repeated
    if isinstance(repeated, Evaluation):
        turn.kind, turn.why = "regenerate", "repeated"
    elif lookup.before:
        found = known
        if isinstance(known, Evaluation):
            turn.kind, turn.why = "follow-up", "known"
        else:
            turn.why = "tools" if repeated == "tools" else known
    elif repeated == "tools":
        turn.why = repeated
    elif lookup.odd:
        turn.why = "shape"
    if isinstance(found, Evaluation):
        turn.evaluation = found
    return turn


class SharedConversations(Protocol):
    """A table that several processes share, so that taking an evaluation involves I/O."""

    async def take(self, lookup: Lookup, usable: Iterable[str]) -> Turn:
        """Find the evaluation that a request continues, and take it out of the table, so that no other process can.

        `usable` are the user ids of the accounts that can be used now. The evaluation in the returned turn must be
        passed to `release`, `put_back` or `put` eventually.
        """

    def release(self, taken: Evaluation) -> asyncio.Future[Any]:
        """End a turn that may have changed the evaluation; the future is done once all processes know."""

    def put_back(self, taken: Evaluation) -> asyncio.Future[Any]:
        """End a turn that did not change the evaluation, which can be taken again; otherwise like `release`."""

    async def put(self, evaluation: Evaluation, taken: Evaluation | None) -> None:
        """Add an evaluation whose answer is complete, in place of the one that the turn had `taken`."""


class Conversations:
    """The table. `put` and `take` run in constant time."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._evaluations: OrderedDict[str, Evaluation] = OrderedDict()
        # Ids by digest, the newest last. The garbage collector does not track tuples of strings, unlike lists.
        self._asked: dict[str, tuple[str, ...]] = {}
        self._answered: dict[str, tuple[str, ...]] = {}
        self._busy: Counter[str] = Counter()  # digests of the evaluations that turns have taken

    def __len__(self) -> int:
        return len(self._evaluations)

    def __iter__(self) -> Iterator[Evaluation]:
        """Yield the evaluations, the least recently used first."""
        return iter(self._evaluations.values())

    def take(
        self,
        key_id: str,
        model_id: str,
        messages: Sequence[Message],
        usable: Callable[[str], bool],
        instructions: str = "",
    ) -> Turn:
        """Find the evaluation that a request continues, and take it out of the table.

        `usable` says whether the account with a user id can be used now. `instructions` is what the model is told about
        tools and formats; an evaluation that was told something else is not continued. The evaluation in the returned
        turn must be passed to `release` eventually, and to `put` only if the turn did not change it.
        """
        lookup = look_up(key_id, model_id, messages, instructions)
        instructions_digest = lookup.turn.instructions
        repeated = self._find(self._asked, lookup.turn.asked, instructions_digest, usable)
        known: Found = "unknown"
        if lookup.before and not isinstance(repeated, Evaluation):
            known = self._find(self._answered, lookup.before, instructions_digest, usable)
        turn = settle(lookup, repeated, known)
        if (taken := turn.evaluation) is not None:
            self._remove(taken)
            self._busy.update((taken.asked, *taken.answered))
        return turn

    def _find(
        self, table: dict[str, tuple[str, ...]], digest: str, instructions: str, usable: Callable[[str], bool]
    ) -> Found:
        ids = table.get(digest, ())
        told_otherwise = False
        for id_ in reversed(ids):
            evaluation = self._evaluations[id_]
            if evaluation.instructions != instructions:
                told_otherwise = True
            elif usable(evaluation.user_id):
                return evaluation
        if ids:
            return "tools" if told_otherwise else "account"
        return "busy" if digest in self._busy else "unknown"

    def release(self, evaluation: Evaluation) -> None:
        """End a turn that had taken the evaluation."""
        self._busy.subtract((evaluation.asked, *evaluation.answered))
        for digest in (evaluation.asked, *evaluation.answered):
            if self._busy[digest] <= 0:
                del self._busy[digest]

    def put(self, evaluation: Evaluation) -> None:
        """Add an evaluation that can be continued; one with the same id is replaced."""
        if evaluation.id in self._evaluations:
            self._remove(self._evaluations[evaluation.id])
        self._evaluations[evaluation.id] = evaluation
        for table, digest in self._places(evaluation):
            table[digest] = (*table.get(digest, ()), evaluation.id)
        if len(self._evaluations) > self._capacity:
            self._remove(next(iter(self._evaluations.values())))

    def load(self, evaluations: Iterable[Evaluation]) -> None:
        """Add the evaluations that a clean shutdown saved."""
        for evaluation in evaluations:
            self.put(evaluation)

    def _remove(self, evaluation: Evaluation) -> None:
        del self._evaluations[evaluation.id]
        for table, digest in self._places(evaluation):
            others = tuple([id_ for id_ in table.pop(digest, ()) if id_ != evaluation.id])
            if others:
                table[digest] = others

    def _places(self, evaluation: Evaluation) -> Iterator[tuple[dict[str, tuple[str, ...]], str]]:
        yield self._asked, evaluation.asked
        for digest in evaluation.answered:
            yield self._answered, digest


def _follows_up(history: Sequence[Message], turn: Sequence[Message]) -> bool:
    """Whether a turn can be sent by itself: one user message, or results of the last calls and maybe a user message.

    `history` ends with the last message of the assistant.
    """
    if not (history and turn):
        return False
    results = turn
    if turn[-1].role == "user":
        last = turn[-1]
        if not (last.is_prompt and (last.text.strip() or last.files)):
            return False
        results = turn[:-1]
    if not results:
        return True
    calls = CallsSoFar()
    calls.add(history[-1].tool_calls)
    return all(
        message.role == "tool" and not message.tool_calls and calls.answered_by(message).place is not None
        for message in results
    )


def comparable(text: str) -> str:
    """Normalise an assistant's text for comparison: strip the reasoning before it and surrounding white space."""
    text = text.strip()
    if not text.startswith("<"):
        return text
    start = 0
    while reasoning := _REASONING.match(text, start):
        start = reasoning.end()
    return text[start:].lstrip()


def without_footnotes(text: str) -> str:
    """Remove the `[1]: …` lines at the end, which some clients render differently; a text is never emptied."""
    if "]: " not in text:
        return text.rstrip() or text
    lines = text.split("\n")
    while lines and (not lines[-1].strip() or _FOOTNOTE.match(lines[-1])):
        del lines[-1]
    return "\n".join(lines).rstrip() or text


def _update(history: hashlib._Hash, messages: Sequence[Message], calls: CallsSoFar) -> None:
    """Add messages to a digest, each as a JSON array after a comma, so that their boundaries count."""
    if messages:
        compared = [_compared(message, calls) for message in messages]
        history.update(b"," + orjson.dumps(compared, option=orjson.OPT_SORT_KEYS)[1:-1])


def _compared(message: Message, calls: CallsSoFar) -> Sequence[object]:
    """Return what is compared of a message; `calls` are the calls before it."""
    role, text, name, tool_calls, tool_call_id, files = message
    answers: object = None
    if role == "assistant":
        text = comparable(text)
    elif role == "tool":
        place, name = calls.answered_by(message)
        answers = tool_call_id or "" if place is None else place
    if not (tool_calls or files):
        return role, text, name, (), answers, ()
    calls.add(tool_calls)
    return role, text, name, list(map(compared_call, tool_calls)), answers, [file.digest for file in files]


def _digest(history: hashlib._Hash) -> str:
    return history.hexdigest()[:_DIGEST_CHARS]
