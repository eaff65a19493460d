"""Running and recent requests, for the dashboard; ended requests are also recorded in the statistics."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from bridge.answering.stages import ToolsOutcome
from bridge.statistics.counts import Outcome, ToolUse
from bridge.statistics.stats import Stats
from handlers.request.record import RequestRecord

#: How many ended requests are kept: those with a key, and separately those without, which must not displace them.
MAX_RECENT: Final = 200
MAX_WITHOUT_KEY: Final = 20


class Activity:
    """The requests for answers of models: the running ones and the last that ended."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._running: dict[int, RequestRecord] = {}
        self._recent: deque[RequestRecord] = deque(maxlen=MAX_RECENT)
        self._without_key: deque[RequestRecord] = deque(maxlen=MAX_WITHOUT_KEY)
        self._number = 0

    def newest(self) -> Iterator[RequestRecord]:
        """All requests, the running ones first, each group from newest to oldest."""
        yield from reversed(self._running.values())
        yield from sorted((*self._recent, *self._without_key), key=attrgetter("number"), reverse=True)

    def running(self, number: int) -> RequestRecord | None:
        """The running request with this number, if there is one."""
        return self._running.get(number)

    def begin(self, record: RequestRecord) -> None:
        """Add a running request."""
        self._number += 1
        record.number = self._number
        self._running[record.number] = record

    def end(self, record: RequestRecord, status: int, seconds: float) -> None:
        """Record the end of a request that was added, and release its answer's text."""
        if self._running.pop(record.number, None) is None:
            return
        prompt_tokens = completion_tokens = 0
        tools = ToolUse()
        for answer in record.answers:
            usage = answer.upstream_usage()
            prompt_tokens += usage.prompt
            completion_tokens += usage.completion
            record.chunks += answer.said.chunks
            if answer.offers_tools:
                tools = tools.plus(tool_use(answer.tools_outcome, answer.dropped_chars))
        record.status, record.seconds = status, seconds
        record.answers.clear()
        record.lifetime = None
        (self._without_key if record.key is None else self._recent).append(record)
        self._stats.record(
            Outcome(
                status=status,
                reason=record.reason,
                seconds=seconds,
                model=record.served,
                key=record.key,
                ttft=record.ttft,
                chunks=record.chunks,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                tools=tools,
                api=record.api,
                refused=record.refused,
            )
        )


def tool_use(outcome: ToolsOutcome | None, dropped_chars: int = 0) -> ToolUse:
    """Count one answer to a request with tools; it has no outcome where it broke off."""
    return ToolUse(
        1,
        called=outcome is ToolsOutcome.CALLED,
        repaired=outcome is ToolsOutcome.REPAIRED,
        unparsed=outcome is ToolsOutcome.UNPARSED,
        dropped_chars=dropped_chars,
    )
