"""Counters of requests by outcome, model, key and front API, and their packed form in JSON.

A row in JSON is one string of numbers. For a name it is `requests errors prompt_tokens completion_tokens last`, and if
tools were ever offered, `offered called repaired unparsed dropped_chars`. For a period it is
`requests errors gone chunks prompt_tokens completion_tokens | ttft | duration | endings`, where a histogram is its sum
in microseconds and its counts without trailing zeros, and endings are counts by word: `ok:12 rejected@here:1`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import add
from typing import Any, Final, NamedTuple, Self, TypeAlias, TypeVar

from bridge.statistics.histogram import Histogram
from upstream.protocol.errors import Reason
from upstream.protocol.printable import printable

#: Inclusive upper bounds of the histograms' buckets, in seconds; one more bucket counts longer durations.
TTFT_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0, 120.0)
DURATION_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0)

#: The most names in a table, and the most characters of a name; further names are counted as OTHERS.
NAMES: Final = 500
NAME_CHARS: Final = 100
OTHERS: Final = "(others)"

#: Marks the word of a request that the bridge itself refused.
HERE: Final = "@here"

#: The reasons of requests that did not fail.
NO_FAILURE: Final = (Reason.OK, Reason.CLIENT_GONE)

T = TypeVar("T")


class ToolUse(NamedTuple):
    """Counts of answers to requests with tools.

    `offered` counts all of them, `called` those with tool calls, `repaired` those with calls after a correction, and
    `unparsed` those whose calls could not be read. `dropped_chars` is the number of their characters that were neither
    text nor part of a call.
    """

    offered: int = 0
    called: int = 0
    repaired: int = 0
    unparsed: int = 0
    dropped_chars: int = 0

    def plus(self, more: ToolUse) -> ToolUse:
        """The sum of both."""
        return ToolUse(*map(add, self, more)) if more.offered else self


#: What most requests have: no tools.
NO_TOOLS: Final = ToolUse()


class Outcome(NamedTuple):
    """How one request, a chat completion or an image generation, has ended.

    `model` is None if it was not resolved, so that callers cannot add made-up names; `key` is the API key's name, None
    without a key; `api` is the front API's name. `seconds` is how long the request took; `ttft` is None if no delta was
    written. `refused` is whether the bridge itself refused it.
    """

    status: int
    reason: Reason
    seconds: float
    model: str | None = None
    key: str | None = None
    ttft: float | None = None
    chunks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tools: ToolUse = NO_TOOLS
    api: str | None = None
    refused: bool = False

    @property
    def failed(self) -> bool:
        """Whether the caller got an error, as the status or within a stream."""
        if self.status >= 400:
            return self.status != 499
        return self.reason not in NO_FAILURE

    @property
    def gone(self) -> bool:
        """Whether the caller left before the end, which does not count as a failure."""
        return self.status == 499 or (self.status < 400 and self.reason is Reason.CLIENT_GONE)

    @property
    def ending(self) -> str:
        """The word of diagnosis, marked if the bridge itself refused the request."""
        return f"{self.reason.value}{HERE}" if self.refused and self.failed else self.reason.value


@dataclass(slots=True)
class UsageCounts:
    """Counters of one model, key or API; `last` is the unix time of its last request."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    last: int = 0
    tools: ToolUse = NO_TOOLS

    def count(self, outcome: Outcome, at: int) -> None:
        """Count one request, which ended at the unix time `at`, later than those before it."""
        self.requests += 1
        self.errors += outcome.failed
        self.prompt_tokens += outcome.prompt_tokens
        self.completion_tokens += outcome.completion_tokens
        self.last = at
        if outcome.tools.offered:
            self.tools = self.tools.plus(outcome.tools)

    def add(self, more: UsageCounts) -> None:
        """Add a row of later requests."""
        self.requests += more.requests
        self.errors += more.errors
        self.prompt_tokens += more.prompt_tokens
        self.completion_tokens += more.completion_tokens
        self.last = more.last
        self.tools = self.tools.plus(more.tools)

    def pack(self) -> str:
        """The row for JSON."""
        row = f"{self.requests} {self.errors} {self.prompt_tokens} {self.completion_tokens} {self.last}"
        return " ".join([row, *map(str, self.tools)]) if self.tools.offered else row

    @classmethod
    def unpack(cls, row: str) -> Self:
        """Read what `pack` wrote. Raises ValueError."""
        requests, errors, prompt_tokens, completion_tokens, last, *tools = map(int, row.split())
        if len(tools) not in (0, 4, len(ToolUse._fields)):  # an older version did not count what was dropped
            raise ValueError(f"{len(tools)} numbers about tools")
        return cls(requests, errors, prompt_tokens, completion_tokens, last, ToolUse(*tools))


@dataclass(slots=True)
class Counts:
    """Counters of requests. A request counts in at most one of `errors` and `gone`; tokens are estimates.

    `endings` counts requests by how they ended; rows that an older version wrote have none.
    """

    requests: int = 0
    errors: int = 0
    gone: int = 0
    chunks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: Histogram = field(default_factory=partial(Histogram, TTFT_BOUNDS), kw_only=True)
    duration: Histogram = field(default_factory=partial(Histogram, DURATION_BOUNDS), kw_only=True)
    endings: Counter[str] = field(default_factory=Counter, kw_only=True)

    @property
    def refused(self) -> int:
        """Requests that the bridge itself refused."""
        return sum([count for ending, count in self.endings.items() if ending.endswith(HERE)])

    @property
    def failed(self) -> int:
        """Requests that failed for another reason: at the site, or because there is no account."""
        return self.errors - self.refused

    @property
    def answered(self) -> int:
        """Requests that got a whole answer."""
        return self.requests - self.errors - self.gone

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Count requests."""
        self.requests += len(outcomes)
        kinds = Counter([(each.status, each.reason, each.refused) for each in outcomes])
        for (status, reason, refused), count in kinds.items():  # there are few
            kind = Outcome(status, reason, 0.0, refused=refused)
            self.errors += count * kind.failed
            self.gone += count * kind.gone
            self.endings[kind.ending] += count
        self.chunks += sum([each.chunks for each in outcomes])
        self.prompt_tokens += sum([each.prompt_tokens for each in outcomes])
        self.completion_tokens += sum([each.completion_tokens for each in outcomes])
        self.ttft.observe([each.ttft for each in outcomes if each.ttft is not None])
        self.duration.observe([each.seconds for each in outcomes])

    def add(self, more: Counts) -> None:
        """Add other counters."""
        self.requests += more.requests
        self.errors += more.errors
        self.gone += more.gone
        self.chunks += more.chunks
        self.prompt_tokens += more.prompt_tokens
        self.completion_tokens += more.completion_tokens
        self.ttft.add(more.ttft)
        self.duration.add(more.duration)
        self.endings.update(more.endings)

    def pack(self) -> str:
        """The row for JSON, in four parts."""
        endings = " ".join([f"{ending}:{count}" for ending, count in self.endings.items()])
        return (
            f"{self.requests} {self.errors} {self.gone} {self.chunks} {self.prompt_tokens} {self.completion_tokens}"
            f" | {self.ttft.pack()} | {self.duration.pack()} | {endings}"
        )

    @classmethod
    def unpack(cls, row: str, **further: int) -> Self:
        """Read what `pack` wrote; `further` are a subclass's own fields. Raises ValueError or AttributeError."""
        numbers, ttft, duration, *endings = row.split(" | ")
        requests, errors, gone, chunks, prompt_tokens, completion_tokens = map(int, numbers.split())
        return cls(
            requests,
            errors,
            gone,
            chunks,
            prompt_tokens,
            completion_tokens,
            ttft=Histogram.unpack(TTFT_BOUNDS, ttft),
            duration=Histogram.unpack(DURATION_BOUNDS, duration),
            endings=_endings("".join(endings)),
            **further,
        )


@dataclass(slots=True)
class Bucket(Counts):
    """The counters of the minute, hour or day that began at the unix time `at`."""

    at: int = field(default=0, kw_only=True)


@dataclass(slots=True)
class Totals(Counts):
    """The counters since the statistics began, with the numbers of successful and failed uploads."""

    uploaded: int = field(default=0, kw_only=True)
    upload_failures: int = field(default=0, kw_only=True)


#: The names of the tables in JSON.
TABLES: Final = ("models", "keys", "apis")
#: The model, key and API of an outcome.
_Names: TypeAlias = tuple[str | None, str | None, str | None]


@dataclass(slots=True)
class Tables:
    """Counters by model, by key and by front API."""

    models: dict[str, UsageCounts] = field(default_factory=dict)
    keys: dict[str, UsageCounts] = field(default_factory=dict)
    apis: dict[str, UsageCounts] = field(default_factory=dict)

    def count(self, outcomes: Sequence[Outcome], times: Sequence[int]) -> None:
        """Count requests by model, key and API; `times` are the unix times at which they ended."""
        rows: dict[_Names, list[UsageCounts]] = {}
        sums: dict[_Names, UsageCounts] = {}
        for outcome, at in zip(outcomes, times, strict=True):
            names = outcome.model, outcome.key, outcome.api
            usage = sums.pop(names, None)
            if usage is None:
                usage, named = UsageCounts(), zip(self._all, names, strict=True)
                rows[names] = [row_of(table, name, UsageCounts) for table, name in named if name is not None]
            usage.count(outcome, at)
            sums[names] = usage  # moved to the end, since it has the last request
        for names, usage in sums.items():
            for row in rows[names]:
                row.add(usage)

    def add(self, more: Tables) -> None:
        """Add tables of later requests."""
        for table, later in zip(self._all, more._all, strict=True):
            for name, usage in later.items():
                row_of(table, name, UsageCounts).add(usage)

    @property
    def _all(self) -> tuple[dict[str, UsageCounts], ...]:
        return self.models, self.keys, self.apis

    def pack(self) -> dict[str, object]:
        """The tables for JSON, each with its rows by name."""
        return {
            kind: {name: usage.pack() for name, usage in table.items()}
            for kind, table in zip(TABLES, self._all, strict=True)
        }

    @classmethod
    def unpack(cls, value: Any) -> Self:
        """Read what `pack` wrote. Raises what `Stats.from_json` does."""
        tables = {"apis": {}, **value}  # an older version counted no APIs
        return cls(*[{name: UsageCounts.unpack(row) for name, row in tables[kind].items()} for kind in TABLES])


def most_used(table: Mapping[str, UsageCounts], count: int | None = None) -> list[tuple[str, UsageCounts]]:
    """The rows of a table, or the first `count`: by decreasing number of requests, then by name."""
    return sorted(table.items(), key=lambda row: (-row[1].requests, row[0]))[:count]


def row_of(table: dict[str, T], name: str, new: Callable[[], T]) -> T:
    """The row of `name`, which is added if there is room; otherwise that of OTHERS."""
    row = table.get(name)
    if row is None:
        name = kept_name(name)
        if name not in table and len(table) >= NAMES:
            name = OTHERS
        row = table.setdefault(name, new())
    return row


def kept_name(name: str) -> str:
    """A name as it stands in tables: cut to NAME_CHARS, with surrogates and control characters replaced by `?`."""
    return printable(name[:NAME_CHARS], "?")


def _endings(row: str) -> Counter[str]:
    pairs = (each.split(":") for each in row.split())
    return Counter({ending: int(count) for ending, count in pairs})


def whole_numbers(counts: dict[str, Any]) -> dict[str, int]:
    """Read numbers by name from JSON. Raises ValueError, TypeError or AttributeError."""
    return {name: int(count) for name, count in counts.items()}
