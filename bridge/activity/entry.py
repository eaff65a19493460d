"""The record of one ended request: what it asked for, how it ended, and each attempt, but not its content.

Its line is a JSON object that omits empty fields:

    {"at": 1764500000.123, "id": "req_…", "status": 200, "word": "ok", "took": 5.2, "key": "laptop", "asked": "gpt-6.1",
     "attempts": [["ada@example.org", 0.01, 0.81, 200, "ok"]], "first": 0.91, "read": 309, "written": 220, …}

Times are unix seconds, durations seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from bridge.statistics.counts import HERE
from upstream.protocol.errors import Reason
from upstream.protocol.surrogates import well_formed

#: Limits for one line: of each text that may come from a caller or the site, of the prompt, and of attempts.
MAX_TEXT_CHARS: Final = 1000
MAX_PROMPT_CHARS: Final = 4096
MAX_ATTEMPTS: Final = 20


class Attempt(NamedTuple):
    """One attempt with an account: when it began, in seconds after the request, and how long its answer took to begin.

    `status` is the site's, None if it sent none; `word` is the word of diagnosis, `ok` for an answer that began.
    """

    account: str
    began: float
    seconds: float
    status: int | None
    word: str


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for each request, which would take three times as long
class Entry:
    """One ended request. `asked` is the model as the caller named it, `model` the one that was used in the end.

    `refused` is whether the bridge itself refused it. `conversation` says how it continued a conversation, and why so;
    `unkept` is how many requests without a key before it were not kept. `prompt` is None unless `log.debug` is set.
    """

    at: float
    id: str
    status: int
    word: str
    seconds: float
    refused: bool = False
    api: str = ""
    key: str = ""
    asked: str = ""
    model: str = ""
    account: str = ""
    client: str = ""
    code: str = ""
    message: str = ""
    attempts: tuple[Attempt, ...] = ()
    first: float | None = None
    read: int = 0
    written: int = 0
    conversation: str = ""
    evaluation: str = ""
    ignored: str = ""
    streamed: bool = False
    messages: int = 0
    tools: int = 0
    unkept: int = 0
    prompt: str | None = None

    @property
    def ending(self) -> str:
        """The word, marked as in the statistics if the bridge itself refused the request."""
        return f"{self.word}{HERE}" if self.refused else self.word

    @property
    def broke(self) -> bool:
        """Whether the answer failed after it had begun with a status of success."""
        return 0 < self.status < 400 and self.word not in (Reason.OK, Reason.CLIENT_GONE)

    def to_line(self) -> bytes:
        """The line, with its line break."""
        plain: dict[str, object] = {
            "at": round(self.at, 3),
            "id": self.id,
            "status": self.status,
            "word": self.word,
            "took": round(self.seconds, 4),
        }
        if self.attempts:
            plain["attempts"] = [
                [label[:MAX_TEXT_CHARS], round(began, 3), round(seconds, 4), status, word]
                for label, began, seconds, status, word in self.attempts[:MAX_ATTEMPTS]
            ]
        if self.first is not None:
            plain["first"] = round(self.first, 4)
        for name in _TEXTS:
            if text := getattr(self, name):
                plain[name] = text[:MAX_TEXT_CHARS]
        for name in _NUMBERS:
            if number := getattr(self, name):
                plain[name] = number
        if self.prompt is not None:
            plain["prompt"] = self.prompt[:MAX_PROMPT_CHARS]
        try:
            return orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # a lone surrogate, which UTF-8 cannot encode: too rare to be checked before
            return well_formed(json.dumps(plain, ensure_ascii=False)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes | str) -> Entry:
        """Read what `to_line` wrote; unknown fields are skipped. Raises ValueError."""
        plain = orjson.loads(line)
        try:
            further: dict[str, Any] = {name: _str(plain[name]) for name in _TEXTS if name in plain}
            further |= {name: kind(plain[name]) for name, kind in _NUMBERS.items() if name in plain}
            return cls(
                at=float(plain["at"]),
                id=_str(plain["id"]),
                status=int(plain["status"]),
                word=_str(plain["word"]),
                seconds=float(plain["took"]),
                attempts=tuple(map(_attempt, plain.get("attempts", ()))),
                first=None if plain.get("first") is None else float(plain["first"]),
                prompt=None if plain.get("prompt") is None else _str(plain["prompt"]),
                **further,
            )
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the line is not a record of a request ({type(error).__name__})") from None


def searched_text(line: bytes) -> str:
    """The text of a line that is searched, case-folded; '' if the line cannot be read."""
    try:
        get = orjson.loads(line).get
        return "\n".join([get(name, "") for name in _SEARCHED]).casefold()
    except (ValueError, TypeError, AttributeError):
        return ""


_SEARCHED: Final = ("id", "asked", "model", "key", "client", "code", "message")
_TEXTS: Final = (
    *("api", "key", "asked", "model", "account", "client", "code", "message"),
    *("conversation", "evaluation", "ignored"),
)
_NUMBERS: Final[dict[str, type[Any]]] = {
    "refused": bool,
    "read": int,
    "written": int,
    "streamed": bool,
    "messages": int,
    "tools": int,
    "unkept": int,
}


def _attempt(row: Any) -> Attempt:
    account, began, seconds, status, word = row
    return Attempt(_str(account), float(began), float(seconds), None if status is None else int(status), _str(word))


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
