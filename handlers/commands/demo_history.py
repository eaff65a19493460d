"""A made-up history of many days, so that every page of the dashboard has content, for `demo --lived-in` and the
pictures in docs/screenshots.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from bridge.access import keys
from bridge.access.keys import ApiKey
from bridge.activity.entry import Attempt, Entry
from bridge.activity.files import Retention, append
from bridge.errors import ApiError, from_upstream, invalid_request
from bridge.state.documents import StateFolder
from bridge.statistics.counts import Outcome
from bridge.statistics.file import stats_document
from bridge.statistics.stats import Stats
from upstream.protocol.errors import ModelFailed, PromptFailed, Reason, TimedOut

DAY: Final = 86_400
#: The average seconds between two requests, at noon of a working day at the end of the history.
GAP_SECONDS: Final = 30.0
#: How much of it Activity keeps: the defaults of `log.keep_days` and `log.keep_mb`.
KEPT: Final = Retention(days=14, size=50 * 1024 * 1024)


@dataclass(frozen=True)
class Tool:
    """A program that calls the bridge: its key's name and rights, its user agent, its share of all requests."""

    name: str
    agent: str
    share: int
    api: str = "chat"
    rights: Mapping[str, Any] = field(default_factory=dict)

    def key(self, at: float) -> tuple[str, ApiKey]:
        """Its secret and its key, made `at` a unix time."""
        return keys.generate(self.name, now=at, **self.rights)


TOOLS: Final = (
    Tool("open-webui", "Python/3.12 aiohttp/3.14.5", 42, rights={"rpm": 120}),
    Tool("laptop", "AsyncOpenAI/Python 2.11.0", 27),
    Tool("editor", "OpenAI/JS 6.49.0", 18, "responses", rights={"concurrency": 4}),
    Tool("phone", "ktor-client", 9, rights={"models": ("gpt-*", "claude-*")}),
    Tool("nightly-report", "curl/8.14.1", 4, "messages", rights={"day_requests": 500, "note": "every night at two"}),
)


class _End(NamedTuple):
    """An outcome of requests: how many of a thousand have it, and how the first attempt failed if another followed."""

    per_mille: int
    error: ApiError | None = None
    reason: Reason = Reason.OK
    status: int = 200
    refused: bool = False
    first_try: Reason | None = None


def _failed(per_mille: int, error: ApiError, *, refused: bool = False) -> _End:
    return _End(per_mille, error, error.reason, error.status, refused)


_ENDS: Final = (
    _End(939),
    _End(16, first_try=PromptFailed.reason),
    _End(22, reason=Reason.CLIENT_GONE, status=499),
    _failed(7, from_upstream(ModelFailed("The model failed.", status=200))),
    _End(2, from_upstream(ModelFailed("The model failed.")), Reason.UPSTREAM_ERROR),  # in the middle of a stream
    _failed(
        6, invalid_request("invalid_value", "'temperature' must be a number from 0 to 2.", "temperature"), refused=True
    ),
    _failed(5, from_upstream(TimedOut("LMArena has not begun to answer."))),
    _failed(
        3,
        ApiError(429, "rate_limit_exceeded", "This API key may make 60 requests a minute.", reason=Reason.RATE_LIMITED),
        refused=True,
    ),
)


async def live_in(
    folder: StateFolder,
    models: Sequence[str],
    accounts: Sequence[str],
    *,
    now: float,
    days: int,
    gap: float = GAP_SECONDS,
) -> None:
    """Write the statistics and Activity of `days` days into a prepared state folder.

    `models` are names, the most used first; `accounts` are labels. `now` is unix time, `gap` as GAP_SECONDS.
    """
    moment = now - days * DAY
    stats = Stats(lambda: moment)
    lived: list[tuple[float, Entry]] = []
    for entry in history(models, accounts, now=now, days=days, gap=gap):
        moment = entry.at + entry.seconds
        stats.record(outcome_of(entry))
        for attempt in entry.attempts:
            stats.record_attempt(attempt.account, Reason(attempt.word))
        if moment // DAY > now // DAY - KEPT.days:
            lived.append((moment, entry))
    moment = now
    await stats_document(folder, lambda: now).save(stats)
    lived.sort(key=itemgetter(0))
    for day, ended in groupby(lived, key=lambda each: each[0] // DAY):
        append(folder, [entry.to_line() for _, entry in ended], KEPT, (day + 1) * DAY - 1)


def history(models: Sequence[str], accounts: Sequence[str], *, now: float, days: int, gap: float) -> Iterator[Entry]:
    """Requests in order: more at this time of day than at any other, fewer at weekends, a little more every week."""
    chance = random.Random(5)  # noqa: S311 — made-up data, the same every time
    shares, parts = [tool.share for tool in TOOLS], [end.per_mille for end in _ENDS]
    allowed = {tool.name: [model for model in models if tool.key(at=now)[1].allows((model,))] for tool in TOOLS}
    at = now - days * DAY
    while True:
        busy = (1.1 + math.cos((now - at) / DAY * math.tau)) / 2.1
        weekend = 0.4 if datetime.fromtimestamp(at, UTC).weekday() > 4 else 1.0
        grown = 1 - 0.7 * (now - at) / (days * DAY)
        at += chance.expovariate(busy * weekend * grown / gap)
        if at >= now - 1:
            return
        (tool,), (end,) = chance.choices(TOOLS, shares), chance.choices(_ENDS, parts)
        offered = allowed[tool.name] or models
        (model,) = chance.choices(offered, [1 / (rank + 1.5) for rank in range(len(offered))])
        entry = _entry(chance, at, model, tool, end, accounts)
        if entry.at + entry.seconds < now:
            yield entry


def outcome_of(entry: Entry) -> Outcome:
    """The statistics' record of a stored request."""
    return Outcome(
        entry.status,
        Reason(entry.word),
        entry.seconds,
        model=entry.model or None,
        key=entry.key,
        ttft=entry.first,
        chunks=entry.written,
        prompt_tokens=entry.read,
        completion_tokens=entry.written,
        api=entry.api,
        refused=entry.refused,
    )


def _entry(chance: random.Random, at: float, model: str, tool: Tool, end: _End, accounts: Sequence[str]) -> Entry:
    attempts = [] if end.refused else _attempts(chance, end, accounts)
    waited = sum(attempt.seconds for attempt in attempts)
    begun = end.status in (200, 499)  # a caller who disconnects has read enough
    written = int(chance.lognormvariate(5.6, 0.8)) + 1 if begun else 0
    read = 0 if end.refused else int(chance.lognormvariate(6.3, 1)) + 1
    return Entry(
        at=at,
        id=f"req_{chance.getrandbits(96):024x}",
        status=end.status,
        word=end.reason,
        seconds=waited + written / chance.uniform(50, 110) + 0.003,
        refused=end.refused,
        api=tool.api,
        key=tool.name,
        asked=model,
        model=model,
        account=attempts[-1].account if attempts else "",
        client=tool.agent,
        code=(end.error.code or "") if end.error else "",
        message=end.error.message if end.error else "",
        attempts=tuple(attempts),
        first=waited + 0.002 if begun else None,
        read=read,
        written=written,
        conversation="" if end.refused else chance.choice(("new; why=first", "new; why=first", "follow-up; why=known")),
        streamed=tool.name != "nightly-report",
        messages=chance.randint(1, 9),
    )


def _attempts(chance: random.Random, end: _End, accounts: Sequence[str]) -> list[Attempt]:
    """The attempts of a request: one, or two if the site first refused it with another account."""
    labels = chance.sample(accounts, k=min(2, len(accounts)))
    waits = 120.0 if end.reason is Reason.TIMEOUT else chance.lognormvariate(0.1, 0.55)
    last = Attempt(labels[0], 0.001, waits, None if end.reason is Reason.TIMEOUT else 200, _word(end))
    if end.first_try is None:
        return [last]
    refused = Attempt(labels[-1], 0.001, chance.uniform(0.2, 0.9), 403, end.first_try)
    return [refused, last._replace(began=refused.seconds + 0.01)]


def _word(end: _End) -> str:
    """The result of an attempt: it succeeded if its answer began, whatever happened later."""
    return Reason.OK if end.reason is Reason.CLIENT_GONE or end.status == 200 else end.reason
