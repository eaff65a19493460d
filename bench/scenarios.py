"""The scenarios. The prompt of each request tells upstream what to answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

_PLAY: Final = re.compile(rb"play (\d+) deltas ([\d.]+) s apart( in a call)?(?: in chunks of (\d+) bytes)?")


@dataclass(frozen=True, slots=True)
class Play:
    """Upstream's answer: the number of deltas, sent all at once or `interval` seconds apart.

    If `called`, the deltas are an argument of a call of the request's first tool, sent all at once. An answer sent at
    once has one HTTP chunk for each delta, or chunks of `chunk` bytes, which may end in the middle of a line.
    """

    deltas: int
    interval: float
    called: bool = False
    chunk: int = 0

    def __str__(self) -> str:
        called = " in a call" if self.called else ""
        chunked = f" in chunks of {self.chunk} bytes" if self.chunk else ""
        return f"play {self.deltas} deltas {self.interval:g} s apart{called}{chunked}"

    @classmethod
    def read(cls, body: bytes | bytearray) -> Self:
        """Parse the directive near the end of a request. Raises ValueError."""
        found = _PLAY.match(body, body.rfind(b"play "))
        if found is None:
            raise ValueError(f"the request has no directive: {bytes(body[:200])!r}")
        return cls(int(found[1]), float(found[2]), found[3] is not None, int(found[4] or 0))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A number of streams, `at_once` of them at a time, whose starts are spread over `spread` seconds.

    A slow subject runs only `few` streams; with 0 it is left out. Scenarios whose p99 matters run `times` as many
    rounds as others, since the p99 of few rounds is mostly noise.
    """

    name: str
    about: str
    unit: Literal["delta", "request", "stream"]
    play: Play
    streams: int
    at_once: int
    spread: float = 0.0
    messages: int = 1
    characters: int = 100  # all messages together
    pictures: int = 0  # of each request
    picture_bytes: int = 0
    tools: int = 0  # of each request
    schema_bytes: int = 0  # of each tool, approximately
    tools_as_text: bool = False  # the tools are text in the last message instead
    streamed: bool = True
    few: int = 0
    times: int = 1

    def with_few(self) -> Scenario:
        """The same scenario for a slow subject."""
        at_once = min(self.at_once, self.few)
        return replace(self, streams=self.few, at_once=at_once, spread=self.spread * at_once / self.at_once)


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("burst", "5 streams of 20,000 deltas, one after another", "delta", Play(20_000, 0), 5, 1, few=1),
        Scenario(
            "burst-16k",
            "the same in HTTP chunks of 16 KiB, which end anywhere in a line",
            "delta",
            Play(20_000, 0, chunk=16 * 1024),
            5,
            1,
            few=1,
        ),
        Scenario(
            "natural",
            "200 streams of 200 deltas, 20 ms apart",
            "delta",
            Play(200, 0.02),
            200,
            200,
            spread=2,
            few=20,
            times=3,
        ),
        Scenario("short", "2,000 requests of 20 deltas, 32 at once", "request", Play(20, 0), 2000, 32, few=100),
        Scenario(
            "alone", "2,000 requests of 20 deltas, one at a time", "request", Play(20, 0), 2000, 1, few=50, times=3
        ),
        Scenario(
            "together",
            "200 requests of 20 deltas at the same moment, each over a new connection",
            "request",
            Play(20, 0),
            200,
            200,
            few=20,
            times=5,
        ),
        Scenario(
            "history",
            "1,000 requests of 100 messages and 100,000 characters, 4 at once",
            "request",
            Play(20, 0),
            1000,
            4,
            messages=100,
            characters=100_000,
            few=40,
        ),
        Scenario(
            "history-whole",
            "the same, not streamed, with usage",
            "request",
            Play(20, 0),
            1000,
            4,
            messages=100,
            characters=100_000,
            streamed=False,
            few=40,
        ),
        Scenario(
            "pictures",
            "50 requests with a picture of 1 MB each, 5 at once; the bridge uploads them, the others forward the body",
            "request",
            Play(20, 0),
            50,
            5,
            pictures=1,
            picture_bytes=1_000_000,
            few=10,
        ),
        Scenario("hold-500", "500 open streams, a delta a second", "stream", Play(4, 1), 500, 500, spread=1, few=100),
        Scenario("hold-2000", "2,000 open streams, a delta a second", "stream", Play(8, 1), 2000, 2000, spread=4),
        Scenario("hold-5000", "5,000 open streams, a delta a second", "stream", Play(12, 1), 5000, 5000, spread=10),
    )
}
WARM_UP: Final = Scenario("warm-up", "", "request", Play(20, 0), 100, 4, few=20)
