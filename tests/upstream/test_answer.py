"""An answer that is passed on as it comes: nothing is lost, doubled or out of order, however that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import repeat

import pytest
from asking import Asker

from upstream.answer import ArenaAnswer
from upstream.arena import Arena, Line, Step, Turn, Until
from upstream.arena.steps import Abort, Close, Raw, Unframed
from upstream.connection import HELD_BYTES
from upstream.errors import TimedOut, Truncated, UpstreamError
from upstream.events import Event, Failure, Finish, TextDeltas

FINISH = Line("ad", {"finishReason": "stop"})


class Taker:
    """Takes batches, up to `most` of them, and then says that it is enough."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.batches: list[list[Event]] = []
        self._most = most
        self._came = asyncio.Event()

    def __call__(self, batch: list[Event]) -> bool:
        self.batches.append(batch)
        self._came.set()
        return len(self.batches) < self._most

    async def has(self, text: str) -> None:
        """Wait until that, and no more, has been taken."""
        while text_of(self.batches) != text:
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), 5)


class Play:
    """An answer in parts: each is sent when the one before it has been seen."""

    def __init__(self, arena: Arena, *parts: Sequence[Step]) -> None:
        self._parts = parts
        self._go = [asyncio.Event() for _ in parts]
        arena.script = self._script

    async def _script(self, _: Turn) -> AsyncIterator[Step]:
        for part, go in zip(self._parts, self._go, strict=True):
            yield Until(go)
            for step in part:
                yield step

    def part(self, number: int) -> None:
        """Send it."""
        self._go[number].set()


def text_of(batches: Sequence[Sequence[Event]]) -> str:
    return "".join(event.text for batch in batches for event in batch if isinstance(event, TextDeltas))


def deltas(*texts: str) -> list[Line]:
    return [Line("a0", text) for text in texts]


async def first_of(asker: Asker, play: Play) -> ArenaAnswer:
    """An answer of which the first part has been read."""
    play.part(0)
    answer = await asker.open()
    assert text_of([await answer.read()]) == "one "
    return answer


async def rest_of(answer: ArenaAnswer) -> list[list[Event]]:
    batches = []
    while not answer.ended:
        batches.append(await answer.read())
    await answer.aclose()
    return batches


async def test_what_comes_is_handed_on_and_the_end_is_left_to_read(asker: Asker, arena: Arena) -> None:
    play, take = Play(arena, deltas("one "), deltas("two "), deltas("three"), [FINISH]), Taker()
    answer = await first_of(asker, play)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        flow = group.create_task(answer.flow(take))
        for number, text in enumerate(("two ", "two three"), 1):
            play.part(number)
            await take.has(text)
            assert not flow.done()
        play.part(3)
    assert not answer.ended
    assert await rest_of(answer) == [[Finish("stop")]]


async def test_deltas_that_come_with_the_end_are_left_to_read_with_it(asker: Asker, arena: Arena) -> None:
    play, take = Play(arena, deltas("one "), [*deltas("two"), FINISH]), Taker()
    answer = await first_of(asker, play)
    play.part(1)
    await asyncio.wait_for(answer.flow(take), 5)
    rest = await rest_of(answer)
    assert text_of([*take.batches, *rest]) == "two"
    assert rest[-1][-1] == Finish("stop")


async def test_who_has_enough_reads_on_by_himself(asker: Asker, arena: Arena) -> None:
    play, take = Play(arena, deltas("one "), deltas("two "), [*deltas("three"), FINISH]), Taker(most=1)
    answer = await first_of(asker, play)
    play.part(1)
    await asyncio.wait_for(answer.flow(take), 5)
    assert text_of(take.batches) == "two "
    play.part(2)
    assert text_of(await rest_of(answer)) == "three"


async def test_what_the_taker_raises_is_raised_where_it_is_awaited(asker: Asker, arena: Arena) -> None:
    def refuse(_: list[Event]) -> bool:
        raise ConnectionResetError("the caller has gone")

    play = Play(arena, deltas("one "), deltas("two "), [FINISH])
    answer = await first_of(asker, play)
    play.part(1)
    with pytest.raises(ConnectionResetError, match="the caller has gone"):
        await asyncio.wait_for(answer.flow(refuse), 5)
    await answer.aclose()
    await asyncio.wait_for(arena.calls[-1].closed.wait(), 1)


@pytest.mark.parametrize(
    ("end", "error"),
    [([Close()], Truncated), ([Abort()], Truncated), ([], TimedOut)],
    ids=["the connection closed", "the connection reset", "silence"],
)
async def test_an_answer_that_breaks_off_is_a_failure_to_read(
    asker: Asker, arena: Arena, end: list[Step], error: type[UpstreamError]
) -> None:
    play = Play(arena, deltas("one "), deltas("two "), end, [Until(asyncio.Event())])
    answer, take = await first_of(asker, play), Taker()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(answer.flow(take))
        await asyncio.sleep(0)
        for number in (1, 2, 3):
            play.part(number)
    rest = await rest_of(answer)
    assert text_of([*take.batches, *rest]) == "two "
    assert isinstance(failure := rest[-1][-1], Failure)
    assert isinstance(failure.error, error)


async def test_a_cancelled_flow_leaves_the_answer_readable(asker: Asker, arena: Arena) -> None:
    play, take = Play(arena, deltas("one "), [*deltas("two"), FINISH]), Taker()
    answer = await first_of(asker, play)
    async with asyncio.TaskGroup() as group:
        flow = group.create_task(answer.flow(take))
        await asyncio.sleep(0)
        flow.cancel()
    assert flow.cancelled()
    play.part(1)
    assert text_of(await rest_of(answer)) == "two"
    assert not take.batches


async def test_our_own_slowness_is_no_silence_between_flows_either(asker: Asker, arena: Arena) -> None:
    play = Play(arena, deltas("one "), deltas("two "), [*deltas("three"), FINISH])
    answer, take = await first_of(asker, play), Taker(most=1)
    play.part(1)
    await asyncio.wait_for(answer.flow(take), 5)
    await asyncio.sleep(0.5)  # more than twice the idle time-out
    play.part(2)
    assert text_of(await rest_of(answer)) == "three"


@pytest.mark.parametrize("chunk_bytes", [1, 3, 7])
async def test_ten_thousand_chunks_in_a_packet_stay_in_order(asker: Asker, arena: Arena, chunk_bytes: int) -> None:
    """More than is read at once, cut anywhere."""
    texts = [f"{number} " for number in range(2_000)]
    body = b"".join(line.encode() for line in deltas(*texts))
    chunks = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    play, take = Play(arena, deltas("one "), [Unframed(framed), FINISH]), Taker()
    answer = await first_of(asker, play)
    play.part(1)
    rest: list[list[Event]] = []
    async with asyncio.timeout(10):
        while not answer.ended:
            await answer.flow(take)
            rest.append(await answer.read())
            take.batches += rest[-1:]
    await answer.aclose()
    assert text_of(take.batches) == "".join(texts)
    assert take.batches[-1][-1] == Finish("stop")


async def test_more_than_a_read_takes_is_passed_on_bit_by_bit(asker: Asker, arena: Arena) -> None:
    texts = list(repeat("all the same ", 10 * HELD_BYTES // 13))
    play, take = Play(arena, deltas("one "), [Raw(b"".join(line.encode() for line in deltas(*texts))), FINISH]), Taker()
    answer = await first_of(asker, play)
    play.part(1)
    async with asyncio.timeout(20):
        while not answer.ended:
            await answer.flow(take)
            take.batches.append(await answer.read())
    await answer.aclose()
    assert text_of(take.batches) == "".join(texts)
    assert (
        max(len(event.json) for batch in take.batches for event in batch if isinstance(event, TextDeltas)) <= HELD_BYTES
    )
