"""Which evaluation a request continues: a table of digests, pure and bounded.

OpenAI's API is stateless, LMArena's is not. An evaluation is used again only where a model that continues it sees
exactly the request's messages: `asked` is the digest of all messages up to its last turn, `answered` of those and the
answer, and `instructions` of what it was told about tools and formats. It leaves the table when it is taken for a turn
and returns after a complete answer.
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

#: Evaluations kept; the least recently used go first. One takes about a kilobyte.
CAPACITY: Final = 100_000

_DIGEST_CHARS: Final = 32

#: The reasoning that clients put before an answer, or take away from there. Applied at a place, never searched for:
#: its time grows with the text, not with the text's square.
_REASONING: Final = re.compile(
    r'\s*(?:<(think|thinking|reasoning)>.*?</\1>|<details type="reasoning".*?</details>)', re.DOTALL
)
_FOOTNOTE: Final = re.compile(r"\s*\[\^?\w{1,8}\]: ")


class Evaluation(NamedTuple):
    """An evaluation at rest: whose it is, the id of its last answer, and what it has been shown.

    `answered` has a digest for each form in which clients return the answer. `instructions` is a digest too, '' where
    there were none.
    """

    id: str
    user_id: str
    message_id: str
    asked: str
    answered: tuple[str, ...]
    instructions: str = ""

    def to_json(self) -> list[str | list[str]]:
        """Plain values for the state file."""
        asked = [self.asked, self.instructions] if self.instructions else self.asked
        return [self.id, self.user_id, self.message_id, asked, *self.answered]

    @classmethod
    def from_json(cls, value: object) -> Evaluation:
        """Read what `to_json` wrote. Raises ValueError."""
        if isinstance(value, list) and len(value) > 4:
            id_, user_id, message_id, asked, *answered = value
            asked, instructions = asked if isinstance(asked, list) and len(asked) == 2 else (asked, "")
            found = cls(id_, user_id, message_id, asked, tuple(answered), instructions)
            if all(isinstance(each, str) for each in (*found[:4], *answered, instructions)) and id_.split() == [id_]:
                return found
        raise ValueError("an evaluation needs at least five strings, the first of them one word")


@dataclass(slots=True)
class Turn:
    """One request's place in a conversation: what to send it to, and why not to another."""

    kind: TurnKind
    why: str
    evaluation: Evaluation | None
    #: The digest of all of the request's messages.
    asked: str
    _history: hashlib._Hash = field(repr=False)
    #: The digest of what the model is told about tools and formats; '' where that is nothing.
    instructions: str = ""

    @classmethod
    def apart(cls) -> Turn:
        """A turn that neither continues a conversation nor begins one: it is not to be remembered."""
        return cls("new", "apart", None, "", hashlib.sha256())

    def answered(self, text: str, calls: tuple[ToolCall, ...] = ()) -> tuple[str, ...]:
        """The digests of the request's messages and their answer: as it was given, and without its footnotes."""
        text = comparable(text)
        bare = without_footnotes(text)
        return tuple([self._followed_by(form, calls) for form in ((text,) if bare == text else (text, bare))])

    def _followed_by(self, text: str, calls: tuple[ToolCall, ...]) -> str:
        history = self._history.copy()
        _update(history, [Message("assistant", text, tool_calls=calls)], CallsSoFar())
        return _digest(history)

    def start_anew(self, why: str) -> None:
        """Give up the evaluation: the whole history goes to a new one."""
        self.kind, self.why, self.evaluation = "new", why, None


#: What a table has under a digest: an evaluation that may be taken, or why there is none.
Found: TypeAlias = Evaluation | Literal["unknown", "busy", "account", "tools"]


class Lookup(NamedTuple):
    """What a request may be known by, and its turn as it is where nothing is found.

    `before` is the digest of the messages before its turn if that can be sent alone, else ''. `odd`: its turn is
    neither one user message nor results behind the last assistant's.
    """

    turn: Turn
    before: str
    odd: bool


def look_up(key_id: str, model_id: str, messages: Sequence[Message], instructions: str = "") -> Lookup:
    """Compute the digests of a request's messages. `instructions`: what its model is told about tools and formats."""
    history, calls = hashlib.sha256(orjson.dumps([key_id, model_id])), CallsSoFar()
    start = start_of_turn(messages)
    _update(history, messages[:start], calls)
    follows_up = _follows_up(messages[:start], messages[start:])
    before = _digest(history) if follows_up else ""
    _update(history, messages[start:], calls)
    told = hashlib.sha256(instructions.encode()).hexdigest()[:_DIGEST_CHARS] if instructions else ""
    odd = not follows_up and len(messages) > 1 and start > 0
    return Lookup(Turn("new", "first", None, _digest(history), history, told), before, odd)


def settle(lookup: Lookup, repeated: Found, known: Found) -> Turn:
    """The turn of a request: `repeated` was found by all of its messages, `known` by those before its turn."""
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
    """A table that several processes share: what claims something has to be waited for."""

    async def take(self, lookup: Lookup, usable: Iterable[str]) -> Turn:
        """Find the evaluation that a request continues, and take it out of the table, so that no other process can.

        `usable` are the accounts (by user id) that may be asked now. Whatever the turn took must be given to `release`,
        `put_back` or `put` in the end.
        """

    def release(self, taken: Evaluation) -> asyncio.Future[Any]:
        """A turn has ended that had taken it, and has changed it. All know it once what is returned is done."""

    def put_back(self, taken: Evaluation) -> asyncio.Future[Any]:
        """A turn has ended that had taken it, and has done nothing to it; otherwise as `release`."""

    async def put(self, evaluation: Evaluation, taken: Evaluation | None) -> None:
        """An evaluation is at rest, its last answer complete; its turn had `taken` this of it."""


class Conversations:
    """The table. `put` and `take` cost the same whatever its size."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._evaluations: OrderedDict[str, Evaluation] = OrderedDict()
        # Ids by digest, the newest last. Tuples of strings, since the garbage collector need not walk those.
        self._asked: dict[str, tuple[str, ...]] = {}
        self._answered: dict[str, tuple[str, ...]] = {}
        self._busy: Counter[str] = Counter()  # digests of evaluations that a turn has taken

    def __len__(self) -> int:
        return len(self._evaluations)

    def __iter__(self) -> Iterator[Evaluation]:
        """Yield the least recently used first."""
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

        `usable` says whether an account (by user id) may be asked now. `instructions` are what the model is told about
        tools and formats: an evaluation that was told something else is not continued. Whatever the turn took must be
        given to `release` in the end, and `put` back only after a complete answer.
        """
        lookup = look_up(key_id, model_id, messages, instructions)
        told = lookup.turn.instructions
        repeated = self._find(self._asked, lookup.turn.asked, told, usable)
        known: Found = "unknown"
        if lookup.before and not isinstance(repeated, Evaluation):
            known = self._find(self._answered, lookup.before, told, usable)
        turn = settle(lookup, repeated, known)
        if (taken := turn.evaluation) is not None:
            self._remove(taken)
            self._busy.update((taken.asked, *taken.answered))
        return turn

    def _find(
        self, table: dict[str, tuple[str, ...]], digest: str, instructions: str, usable: Callable[[str], bool]
    ) -> Found:
        ids = table.get(digest, ())
        told_else = False
        for id_ in reversed(ids):
            evaluation = self._evaluations[id_]
            if evaluation.instructions != instructions:
                told_else = True
            elif usable(evaluation.user_id):
                return evaluation
        if ids:
            return "tools" if told_else else "account"
        return "busy" if digest in self._busy else "unknown"

    def release(self, evaluation: Evaluation) -> None:
        """A turn has ended that had taken it."""
        self._busy.subtract((evaluation.asked, *evaluation.answered))
        for digest in (evaluation.asked, *evaluation.answered):
            if self._busy[digest] <= 0:
                del self._busy[digest]

    def put(self, evaluation: Evaluation) -> None:
        """An evaluation is at rest, its last answer complete."""
        if evaluation.id in self._evaluations:
            self._remove(self._evaluations[evaluation.id])
        self._evaluations[evaluation.id] = evaluation
        for table, digest in self._places(evaluation):
            table[digest] = (*table.get(digest, ()), evaluation.id)
        if len(self._evaluations) > self._capacity:
            self._remove(next(iter(self._evaluations.values())))

    def load(self, evaluations: Iterable[Evaluation]) -> None:
        """Take over what a clean stop has left."""
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
    """Whether a turn can be sent alone: one user message, or results of the last calls and at most one user message.

    `history` ends in the last assistant's message.
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
    """An assistant's text as it is compared: without the reasoning before it, and without white space around it."""
    text = text.strip()
    if not text.startswith("<"):
        return text
    start = 0
    while reasoning := _REASONING.match(text, start):
        start = reasoning.end()
    return text[start:].lstrip()


def without_footnotes(text: str) -> str:
    """A text without the `[1]: …` lines at its end, which some clients show in another way; never emptied."""
    if "]: " not in text:
        return text.rstrip() or text
    lines = text.split("\n")
    while lines and (not lines[-1].strip() or _FOOTNOTE.match(lines[-1])):
        del lines[-1]
    return "\n".join(lines).rstrip() or text


def _update(history: hashlib._Hash, messages: Sequence[Message], calls: CallsSoFar) -> None:
    """Take further messages into a digest: each is one JSON array behind a comma, so that none runs into the next."""
    if messages:
        compared = [_compared(message, calls) for message in messages]
        history.update(b"," + orjson.dumps(compared, option=orjson.OPT_SORT_KEYS)[1:-1])


def _compared(message: Message, calls: CallsSoFar) -> Sequence[object]:
    """Everything that two equal messages have in common; `calls` are those before it."""
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
