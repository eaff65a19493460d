"""The table of models: its rows, this bridge's measurements, and filtering and sorting by the URL. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from bridge.statistics.counts import NO_TOOLS, ToolUse, UsageCounts, kept_name
from bridge.statistics.spans import TABLE_DAYS, Span
from bridge.statistics.speeds import Speed
from bridge.statistics.stats import Stats

#: The filters of the list, and their labels.
TRAITS: Final[Mapping[str, str]] = {
    "sees": "sees pictures",
    "draws": "draws",
    "search": "searches the web",
    "chat": "chats",
    "stealth": "stealth",
    "new": "new",
}
MEASURED_DAYS: Final = TABLE_DAYS
_MAX_CHARS: Final = 200


class Measured(NamedTuple):
    """The statistics of a model in MEASURED_DAYS days.

    `first_token` is the median in seconds, `rate` is in tokens per second; both are None if there is too little data.
    """

    requests: int = 0
    errors: int = 0
    first_token: float | None = None
    rate: float | None = None
    tools: ToolUse = NO_TOOLS

    @property
    def error_share(self) -> float | None:
        """The share of requests that ended in an error; None without requests."""
        return self.errors / self.requests if self.requests else None


UNUSED: Final = Measured()


class Row(NamedTuple):
    """One model as the page lists it; `display_name` is set only if it differs from the public name."""

    name: str
    display_name: str | None
    maker: str
    rank: int | None
    traits: tuple[str, ...]
    star: bool
    measured: Measured = UNUSED

    @property
    def searched(self) -> str:
        """The text that is searched for words."""
        return f"{self.name} {self.display_name or ''} {self.maker}"


class Column(NamedTuple):
    """A column that can be sorted: its title, the value of a row, and whether the largest comes first."""

    title: str
    value: Callable[[Row], float | str | None]
    largest_first: bool = False
    number: bool = True


#: The columns, by their names in the URL.
COLUMNS: Final[Mapping[str, Column]] = {
    "name": Column("Name", lambda row: row.name.lower(), number=False),
    "maker": Column("Maker", lambda row: row.maker.lower(), number=False),
    "rank": Column("Rank", lambda row: row.rank),
    "first": Column("First token", lambda row: row.measured.first_token),
    "rate": Column("Tokens/s", lambda row: row.measured.rate, largest_first=True),
    "errors": Column("Errors", lambda row: row.measured.error_share),
    "requests": Column("Requests", lambda row: row.measured.requests, largest_first=True),
}


class ModelQuery(NamedTuple):
    """The page's filters and order; `sort` is a column's name, with `-` before it for the opposite order."""

    q: str = ""
    can: tuple[str, ...] = ()
    sort: str = ""

    @property
    def query(self) -> str:
        """The URL's query."""
        fields = [("q", self.q), *(("can", trait) for trait in self.can), ("sort", self.sort)]
        return urlencode([(name, value) for name, value in fields if value])

    @property
    def address(self) -> str:
        """The page's URL."""
        return "/dashboard/models" + (f"?{self.query}" if self.query else "")

    @property
    def cleared(self) -> ModelQuery:
        """The same order without any filter."""
        return ModelQuery(sort=self.sort)

    @property
    def column(self) -> str:
        """The name of the column by which the page is sorted; '' for the usual order."""
        return self.sort.removeprefix("-")

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return COLUMNS[self.column].largest_first != self.sort.startswith("-")

    def by(self, column: str) -> ModelQuery:
        """The same filters, sorted by a column, or in the opposite order if it is already sorted by that column."""
        return self._replace(sort=f"-{column}" if self.sort == column else column)

    def shows(self, row: Row) -> bool:
        """Whether a row has every word and every trait."""
        text = row.searched.lower()
        return all(word in text for word in self.q.lower().split()) and set(self.can).issubset(row.traits)

    def in_order(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows sorted by the column, those without a value last; without a column in the API's order."""
        if not self.sort:
            return rows
        valued = [(COLUMNS[self.column].value(row), row) for row in rows]
        known: list[tuple[Any, Row]] = [(value, row) for value, row in valued if value is not None]
        known.sort(key=itemgetter(0), reverse=self.descending)
        return [*(row for _, row in known), *(row for value, row in valued if value is None)]


def asked_for(query: Iterable[tuple[str, str]]) -> ModelQuery:
    """Read the URL's query; invalid parts are ignored."""
    fields = list(query)
    words = next((value.strip()[:_MAX_CHARS] for name, value in fields if name == "q"), "")
    traits = {value for name, value in fields if name == "can"}
    sort = next((value for name, value in fields if name == "sort"), "")
    known = sort.removeprefix("-") in COLUMNS
    return ModelQuery(words, tuple(trait for trait in TRAITS if trait in traits), sort if known else "")


def measured(stats: Stats) -> Mapping[str, Measured]:
    """The statistics of each model, by its name in them. To be run in a thread, since it adds up days."""
    usages = stats.tables(Span("day", "day", MEASURED_DAYS)).models
    speeds = stats.speeds().models
    return {name: _measured(usage, speeds.get(name, Speed())) for name, usage in usages.items()}


def _measured(usage: UsageCounts, speed: Speed) -> Measured:
    return Measured(usage.requests, usage.errors, speed.first_token, speed.rate, usage.tools)


def of_model(found: Mapping[str, Measured], name: str) -> Measured:
    """The measurements of a model."""
    return found.get(kept_name(name), UNUSED)
