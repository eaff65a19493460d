"""How fast each model answers: the time to the first token, and tokens per second.

Kept for each day. A row in JSON is `ttft | tokens micros`: a histogram, and the estimated tokens of streamed texts with
the time in microseconds between their first token and their end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self

from bridge.statistics.counts import TTFT_BOUNDS, Outcome, row_of
from bridge.statistics.histogram import Histogram
from upstream.protocol.errors import Reason

#: The least number of answers for which the median time to the first token is meaningful.
ENOUGH_ANSWERS: Final = 3


@dataclass(slots=True)
class Speed:
    """What was measured of one model's complete answers; `micros` are microseconds."""

    ttft: Histogram = field(default_factory=partial(Histogram, TTFT_BOUNDS))
    tokens: int = 0
    micros: int = 0

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Count answers. The rate excludes those with tools, whose calls are held back until they are complete."""
        self.ttft.observe([each.ttft for each in outcomes if each.ttft is not None])
        for each in outcomes:
            if each.ttft is not None and each.chunks > 1 and each.completion_tokens and not each.tools.offered:
                self.tokens += each.completion_tokens
                self.micros += max(round((each.seconds - each.ttft) * 1e6), 0)

    def add(self, more: Speed) -> None:
        """Add other measurements of the model."""
        self.ttft.add(more.ttft)
        self.tokens += more.tokens
        self.micros += more.micros

    @property
    def first_token(self) -> float | None:
        """The median time to the first token, in seconds; None before ENOUGH_ANSWERS."""
        return self.ttft.quantile(0.5) if self.ttft.total >= ENOUGH_ANSWERS else None

    @property
    def rate(self) -> float | None:
        """Tokens per second; None if nothing was measured."""
        return self.tokens / (self.micros / 1e6) if self.tokens and self.micros else None

    def pack(self) -> str:
        """The row for JSON."""
        return f"{self.ttft.pack()} | {self.tokens} {self.micros}"

    @classmethod
    def unpack(cls, row: str) -> Self:
        """Read what `pack` wrote. Raises ValueError."""
        ttft, rate = row.split(" | ")
        tokens, micros = map(int, rate.split())
        return cls(Histogram.unpack(TTFT_BOUNDS, ttft), tokens, micros)


@dataclass(slots=True)
class Speeds:
    """The speeds of one day, by model."""

    models: dict[str, Speed] = field(default_factory=dict)

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Count the complete answers among requests that have ended."""
        answers: defaultdict[str, list[Outcome]] = defaultdict(list)
        for each in outcomes:
            if each.model is not None and each.ttft is not None and each.reason is Reason.OK:
                answers[each.model].append(each)
        for model, of_model in answers.items():
            row_of(self.models, model, Speed).count(of_model)

    def add(self, more: Speeds) -> None:
        """Add the speeds of another day."""
        for name, speed in more.models.items():
            row_of(self.models, name, Speed).add(speed)

    def pack(self) -> dict[str, str]:
        """The rows by model."""
        return {name: speed.pack() for name, speed in self.models.items()}

    @classmethod
    def unpack(cls, rows: Any) -> Self:
        """Read what `pack` wrote. Raises what `Stats.from_json` does."""
        return cls({name: Speed.unpack(row) for name, row in rows.items()})
