"""Questions to the other processes that share this state, for the dashboard's pages that show all of them.

A process publishes a question on a channel that all of them subscribe to, and each of the others answers on the channel
of the process that asked. That channel is also for orders to the process. No request costs anything for this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from bridge.shared.link import Link
from bridge.state.errors import StateUnavailable

#: How long to wait for answers, in seconds. A process that is frozen or very busy is then shown as missing.
ANSWER_SECONDS: Final = 0.5

#: The channel for questions.
_QUESTIONS: Final = "asks"

#: What a process reports about itself: a JSON object.
InstanceReport: TypeAlias = Mapping[str, Any]


class Answers(NamedTuple):
    """The others' reports by instance, the names of those that have not answered, and whether they could be asked."""

    reports: Mapping[str, InstanceReport] = {}
    missing: frozenset[str] = frozenset()
    asked: bool = True


class _Question:
    """An open question and the reports that have come. `expected` is how many will come; None until that is known."""

    def __init__(self) -> None:
        self.reports: dict[str, InstanceReport] = {}
        self.expected: int | None = None
        self.complete = asyncio.Event()

    def check(self) -> None:
        """Set `complete` if all reports have come."""
        if self.expected is not None and len(self.reports) >= self.expected:
            self.complete.set()


class RedisInstances:
    """Asks the other processes, and answers them.

    `report` answers a question and `execute` carries out an order; both texts come from other processes. Create this
    before the link runs.
    """

    def __init__(
        self, link: Link, report: Callable[[str], Awaitable[InstanceReport]], execute: Callable[[str], None]
    ) -> None:
        self._link = link
        self._report = report
        self._me = link.settings.instance
        self._open: dict[str, _Question] = {}  # by number
        self._last_number = 0
        link.subscribe(_QUESTIONS, self._channel(self._me))
        link.on_news("asked", self._on_question)
        link.on_news("told", self._on_report)
        link.on_news("do", lambda text: execute(text) if text else None)

    async def ask(self, text: str) -> Answers:
        """Ask all other processes a question."""
        self._last_number += 1
        number = f"{self._last_number}"
        question = self._open[number] = _Question()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                receivers = await self._link.call(
                    self._link.publish_command("asked", f"{self._me} {number} {text}", channel=_QUESTIONS)
                )
                question.expected = receivers - 1  # this process is one of them
                question.check()
                await question.complete.wait()
        except StateUnavailable:
            return Answers(asked=False)
        except TimeoutError:
            return Answers(question.reports, self._link.alive - {self._me, *question.reports})
        finally:
            del self._open[number]
        return Answers(question.reports)

    async def order(self, instance: str, text: str) -> None:
        """Send an order to a process; if that has ended, nothing happens. Raises SharedStateDown."""
        await self._link.call(self._link.publish_command("do", text, channel=self._channel(instance)))

    def _on_question(self, text: str) -> None:
        asker, _, rest = text.partition(" ")
        number, _, question = rest.partition(" ")
        if question and asker != self._me:
            self._link.spawn(self._answer(asker, number, question), name="answer another process")

    async def _answer(self, asker: str, number: str, question: str) -> None:
        report = orjson.dumps(await self._report(question)).decode()
        self._link.post(
            self._link.publish_command("told", f"{number} {self._me} {report}", channel=self._channel(asker))
        )

    def _on_report(self, text: str) -> None:
        number, _, rest = text.partition(" ")
        instance, _, report = rest.partition(" ")
        if (question := self._open.get(number)) is None:  # the report is too late
            return
        try:
            value = orjson.loads(report)
        except orjson.JSONDecodeError:  # not the bridge's
            return
        if isinstance(value, dict):
            question.reports[instance] = value
            question.check()

    @staticmethod
    def _channel(instance: str) -> str:
        return f"news:{instance}"
