"""The running requests, for the dashboard. One that ends is recorded in the statistics, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bridge.activity.entry import Attempt, Entry
from bridge.answering.stages import ToolsOutcome
from bridge.headers import CONVERSATION, EVALUATION, IGNORED
from bridge.statistics.counts import NO_TOOLS, Outcome, ToolUse
from bridge.statistics.stats import Stats
from handlers.request.record import RequestRecord
from upstream.protocol.errors import Reason


class Activity:
    """The running requests that ask a model."""

    def __init__(self, stats: Stats, keep: Callable[[RequestRecord], None]) -> None:
        """`keep` is called with each request that has ended."""
        self._stats = stats
        self._keep = keep
        self._running: dict[int, RequestRecord] = {}
        self._number = 0

    def running_newest(self) -> Iterator[RequestRecord]:
        """The running requests, the newest first."""
        return reversed(self._running.values())

    def running(self, number: int) -> RequestRecord | None:
        """The running request with this number, if there is one."""
        return self._running.get(number)

    def begin(self, record: RequestRecord) -> None:
        """Add a running request."""
        self._number += 1
        record.number = self._number
        self._running[record.number] = record

    def end(self, record: RequestRecord, status: int, seconds: float) -> None:
        """Record the end of a request, and release the text of its answers; do nothing if it was never added."""
        if self._running.pop(record.number, None) is None:
            return
        tools = NO_TOOLS
        for answer in record.answers:
            usage = answer.upstream_usage()
            record.prompt_tokens += usage.prompt
            record.completion_tokens += usage.completion
            record.chunks += answer.received.chunks
            if answer.offers_tools:
                tools = tools.plus(tool_use(answer.tools_outcome, answer.dropped_chars))
        if record.spend is not None:
            record.spend(record.prompt_tokens + record.completion_tokens)
            record.spend = None
        record.status, record.seconds = status, seconds
        record.answers.clear()
        record.lifetime = record.queued = None
        self._keep(record)
        self._stats.record(
            Outcome(
                status=status,
                reason=record.reason,
                seconds=seconds,
                model=record.served,
                key=record.key,
                ttft=record.ttft,
                chunks=record.chunks,
                prompt_tokens=record.prompt_tokens,
                completion_tokens=record.completion_tokens,
                tools=tools,
                api=record.api,
                refused=record.refused,
            )
        )


def entry_of(record: RequestRecord) -> Entry:
    """The entry that is kept of an ended request; of a running one, with status 0."""
    headers, reason = record.headers, record.reason
    status = record.status or 0
    failed = (status >= 400 and status != 499) or reason not in (Reason.OK, Reason.CLIENT_GONE)
    return Entry(
        at=record.began,
        id=record.request_id,
        status=status,
        word=reason.value,
        seconds=record.seconds,
        refused=record.refused and failed,
        api=record.api or "",
        key=record.key or "",
        asked=record.model or "",
        model=record.served or "",
        account=record.account or "",
        client=record.client,
        code=record.code or "",
        message=record.message or "",
        attempts=tuple(
            Attempt(each.account, max(0.0, each.at - record.began), each.seconds, each.status, each.reason.value)
            for each in record.attempts
        ),
        first=record.ttft,
        read=record.prompt_tokens,
        written=record.completion_tokens,
        conversation=headers.get(CONVERSATION, ""),
        evaluation=headers.get(EVALUATION, ""),
        ignored=headers.get(IGNORED, ""),
        streamed=record.streamed,
        messages=record.messages,
        tools=record.tools,
        prompt=record.prompt,
    )


def tool_use(outcome: ToolsOutcome | None, dropped_chars: int = 0) -> ToolUse:
    """The counts for one answer to a request with tools; `outcome` is None if the answer broke off."""
    return ToolUse(
        1,
        called=outcome is ToolsOutcome.CALLED,
        repaired=outcome is ToolsOutcome.REPAIRED,
        unparsed=outcome is ToolsOutcome.UNPARSED,
        dropped_chars=dropped_chars,
    )
