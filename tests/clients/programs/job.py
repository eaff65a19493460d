"""The protocol of the programs that drive Python clients: the jobs that they get, and the replies that they print.

Each line of standard input is a job, one JSON document: `base_url`, `key`, `model`, `turns` (what the user says, one
turn after the other), `picture` (the path of a PNG that goes with the first turn, or null) and `task` (how to use the
client: "talk", or one of the program's own). Each is answered by one line of standard output: `answers`, for
each turn the pieces in which its answer came, and `error`, what the client raised, or null. The program starts once for
all jobs, since importing a client takes seconds.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Job:
    """A conversation to have with the bridge."""

    base_url: str
    key: str
    model: str
    turns: list[str]
    picture: str | None = None
    task: str = "talk"

    @property
    def picture_url(self) -> str | None:
        """The picture as a data URL, if there is one."""
        if self.picture is None:
            return None
        return f"data:image/png;base64,{base64.b64encode(Path(self.picture).read_bytes()).decode()}"


#: Sends one turn of a conversation, with the picture if there is one, and yields the answer's pieces as they come.
Say: TypeAlias = Callable[[str, str | None], Iterable[str]]


def run(begin: Callable[[Job], Say], *errors: type[Exception]) -> None:
    """Have the conversations that the jobs ask for; `errors` are those that the client may raise for a request."""
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)  # keeps what the client prints out of the replies
        for line in sys.stdin:
            reply = _converse(Job(**json.loads(line)), begin, errors)
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


def _converse(job: Job, begin: Callable[[Job], Say], errors: tuple[type[Exception], ...]) -> dict[str, Any]:
    answers: list[list[str]] = []
    try:
        say = begin(job)
        picture = job.picture_url
        for turn in job.turns:
            pieces: list[str] = []
            answers.append(pieces)
            for piece in say(turn, picture):
                pieces.append(piece)  # noqa: PERF402  the pieces before an error count
            picture = None
    except errors as error:
        return {"answers": answers, "error": {"type": type(error).__name__, "message": str(error)}}
    return {"answers": answers, "error": None}


def get_weather(city: str, days: int) -> str:
    """Say how the weather will be."""
    return f"{days} days of rain in {city}"


def now() -> str:
    """Say what time it is."""
    return "noon"


FUNCTIONS: dict[str, Callable[..., str]] = {"get_weather": get_weather, "now": now}

#: The two functions as tools, in the format of OpenAI's API.
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": get_weather.__doc__,
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city", "days"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": now.__doc__,
            "strict": True,
            "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        },
    },
]

#: A tool whose input is text that follows a grammar, in the format of the Responses API.
PATCH: Any = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Change a file.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch" /(.|\\n)+/'},
}


def called(name: str, given: object) -> str:
    """A tool call as a piece of an answer, for the test to read."""
    return json.dumps([name, given])


def spoken(text: str, picture: str | None) -> str | list[dict[str, object]]:
    """A user's message in the format of OpenAI's API: only the text, or parts."""
    if picture is None:
        return text
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": picture}}]
