"""What the processes that share a state tell of themselves when one of them asks: for pages that are about all.

Nothing is told unasked, so that no request costs anything for it. The asker publishes a question; each of the others
answers on the asker's own channel, where it may also be told to do something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from bridge.shared.link import Link
from bridge.state.documents import StateUnavailable

#: How long an answer is waited for, in seconds: a process that is frozen, or very busy, is shown as missing.
ANSWER_SECONDS: Final = 0.5

_ASKS: Final = "asks"

#: What a process tells: an object of plain values.
InstanceReport: TypeAlias = Mapping[str, Any]


class Answers(NamedTuple):
    """What others have reported, by instance; the names of those that have not; and whether anybody could be asked."""

    reports: Mapping[str, InstanceReport] = {}
    missing: frozenset[str] = frozenset()
    asked: bool = True


class _Round:
    """One question: what has been told so far. `expected` is how many will, None before that is known."""

    def __init__(self) -> None:
        self.reports: dict[str, InstanceReport] = {}
        self.expected: int | None = None
        self.complete = asyncio.Event()

    def look(self) -> None:
        if self.expected is not None and len(self.reports) >= self.expected:
            self.complete.set()


class RedisInstances:
    """Asks the other processes, and answers them.

    `tell` answers a question, which is one word, and `act` does what this process is told to: both come from others
    that share the state. To be made before the link runs.
    """

    def __init__(
        self, link: Link, tell: Callable[[str], Awaitable[InstanceReport]], act: Callable[[str], None]
    ) -> None:
        self._link = link
        self._tell = tell
        self._me = link.settings.instance
        self._rounds: dict[str, _Round] = {}
        self._number = 0
        link.subscribe(_ASKS, self._channel(self._me))
        link.on_news("asked", self._asked)
        link.on_news("told", self._told)
        link.on_news("do", lambda text: act(text) if text else None)

    async def ask(self, question: str) -> Answers:
        """Ask all others. Without Redis there is nobody to ask."""
        self._number += 1
        number = f"{self._number}"
        asking = self._rounds[number] = _Round()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                listening = await self._link.call(
                    self._link.publish_command("asked", f"{self._me} {number} {question}", channel=_ASKS)
                )
                asking.expected = listening - 1  # this process is one of them
                asking.look()
                await asking.complete.wait()
        except StateUnavailable:
            return Answers(asked=False)
        except TimeoutError:
            return Answers(asking.reports, self._link.alive - {self._me, *asking.reports})
        finally:
            del self._rounds[number]
        return Answers(asking.reports)

    async def order(self, instance: str, text: str) -> None:
        """Tell a process to do something; one that has ended does nothing. Raises SharedStateDown."""
        await self._link.call(self._link.publish_command("do", text, channel=self._channel(instance)))

    def _asked(self, text: str) -> None:
        asker, _, rest = text.partition(" ")
        number, _, question = rest.partition(" ")
        if question and asker != self._me:
            self._link.spawn(self._answer(asker, number, question), name="answer another process")

    async def _answer(self, asker: str, number: str, question: str) -> None:
        told = orjson.dumps(await self._tell(question)).decode()
        self._link.post(self._link.publish_command("told", f"{number} {self._me} {told}", channel=self._channel(asker)))

    def _told(self, text: str) -> None:
        number, _, rest = text.partition(" ")
        instance, _, told = rest.partition(" ")
        if (asking := self._rounds.get(number)) is None:  # it comes too late
            return
        try:
            value = orjson.loads(told)
        except orjson.JSONDecodeError:  # not the bridge's
            return
        if isinstance(value, dict):
            asking.reports[instance] = value
            asking.look()

    @staticmethod
    def _channel(instance: str) -> str:
        return f"news:{instance}"
