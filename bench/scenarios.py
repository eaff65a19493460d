"""What is measured, and the requests that ask for it: what upstream is to play stands in the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Self

import orjson

#: The model that the benchmark's upstream lists, and the key that the bridge is given.
MODEL: Final = "bench-model"
MODEL_ID: Final = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
KEY: Final = "sk-lmab-" + "0123456789abcdef" * 2

_NUMBER: Final = b"00000000"  # each request has one of its own in this place: none repeats another
_PLAY: Final = re.compile(rb"play (\d+) deltas ([\d.]+) s apart")


@dataclass(frozen=True, slots=True)
class Play:
    """What upstream answers: so many deltas, all at once or `interval` seconds apart."""

    deltas: int
    interval: float

    def __str__(self) -> str:
        return f"play {self.deltas} deltas {self.interval:g} s apart"

    @classmethod
    def read(cls, body: bytes | bytearray) -> Self:
        """Find what a request asks for: it stands near the end. Raises ValueError."""
        found = _PLAY.match(body, body.rfind(b"play "))
        if found is None:
            raise ValueError(f"a request that asks for nothing: {bytes(body[:200])!r}")
        return cls(int(found[1]), float(found[2]))


@dataclass(frozen=True, slots=True)
class Scenario:
    """So many streams, `at_once` of them at a time, which begin evenly over `spread` seconds."""

    name: str
    about: str
    unit: Literal["delta", "request", "stream"]
    play: Play
    streams: int
    at_once: int
    spread: float = 0.0
    messages: int = 1
    characters: int = 100  # all messages together

    def texts(self) -> list[str]:
        """The messages: users' and assistants' in turn, the last one a user's."""
        size = self.characters // self.messages
        last = f"{self.name}: {self.play}, number {_NUMBER.decode()}"
        return [*["So it is said again. ".ljust(size, "x")] * (self.messages - 1), last.rjust(size, "x")]


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("burst", "5 streams of 20,000 deltas, one after another", "delta", Play(20_000, 0), 5, 1),
        Scenario("natural", "200 streams of 200 deltas, 20 ms apart", "delta", Play(200, 0.02), 200, 200, spread=2),
        Scenario("short", "2,000 requests of 20 deltas, 32 at once", "request", Play(20, 0), 2000, 32),
        Scenario("alone", "200 requests of 20 deltas, one at a time", "request", Play(20, 0), 200, 1),
        Scenario(
            "history",
            "200 requests of 100 messages and 100,000 characters, 4 at once",
            "request",
            Play(20, 0),
            200,
            4,
            messages=100,
            characters=100_000,
        ),
        Scenario("hold-500", "500 open streams, a delta a second", "stream", Play(5, 1), 500, 500, spread=1),
        Scenario("hold-2000", "2,000 open streams, a delta a second", "stream", Play(10, 1), 2000, 2000, spread=4),
        Scenario("hold-5000", "5,000 open streams, a delta a second", "stream", Play(20, 1), 5000, 5000, spread=10),
    )
}
#: What a run measures unless it is told otherwise: what fits into a minute or two.
QUICK: Final = ("burst", "natural", "short", "alone", "history", "hold-500")
WARM_UP: Final = Scenario("warm-up", "", "request", Play(20, 0), 100, 4)

Requests = Callable[[int], bytes]


def lmarena_requests(scenario: Scenario) -> Requests:
    """Requests that upstream understands itself, by number."""
    body = {
        "id": MODEL_ID,
        "mode": "direct",
        "modelAId": MODEL_ID,
        "userMessageId": MODEL_ID,
        "modelAMessageId": MODEL_ID,
        "userMessage": {"content": "\n\n".join(scenario.texts()), "experimental_attachments": []},
        "modality": "chat",
    }
    return _numbered("/nextjs-api/stream/create-evaluation", "text/plain;charset=UTF-8", body)


def openai_requests(scenario: Scenario) -> Requests:
    """The same for what speaks OpenAI's API."""
    texts = scenario.texts()
    roles = ("user", "assistant") if len(texts) % 2 else ("assistant", "user")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return _numbered("/v1/chat/completions", "application/json", {"model": MODEL, "stream": True, "messages": messages})


def _numbered(path: str, content_type: str, body: object) -> Requests:
    encoded = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(encoded)}\r\n\r\n"
    )
    before, _, after = (head.encode() + encoded).rpartition(_NUMBER)
    return lambda number: b"%b%08d%b" % (before, number, after)
