"""An answer that is passed on as it arrives: nothing is lost, repeated or reordered, however the answer ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import repeat

import pytest
from asking import Asker, connected

from upstream.answer import ArenaAnswer
from upstream.arena import Arena, Line, Pause, Step, Turn, Until
from upstream.arena.steps import Abort, Close, Raw, Unframed
from upstream.http.connection import HELD_BYTES
from upstream.protocol.errors import (
    EmptyAnswer,
    ModelFailed,
    Repeat,
    SilentAnswer,
    TimedOut,
    Truncated,
    UpstreamError,
)
from upstream.protocol.events import Event, Failure, Finish, Images, TextDeltas

FINISH = Line("ad", {"finishReason": "stop"})
HEARTBEAT = Line("a2", [{"type": "heartbeat"}])
#: A heartbeat, and a pause much shorter than `SHORT_SECONDS`; four such pauses are longer.
BEAT: list[Step] = [HEARTBEAT, Pause(0.3)]
SHORT_SECONDS = 1.0


class Taker:
    """Accepts up to `most` batches, then returns False."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.batches: list[list[Event]] = []
        self._most = most
        self._came = asyncio.Event()

    def __call__(self, batch: list[Event]) -> bool:
        self.batches.append(batch)
        self._came.set()
        return len(self.batches) < self._most

    async def has(self, text: str) -> None:
        """Wait until exactly this has been received."""
        while text_of(self.batches) != text:
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), 5)


class Play:
    """An answer in parts, each of which is sent when the test calls `part`."""

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
        """Send the part with this number."""
        self._go[number].set()


def text_of(batches: Sequence[Sequence[Event]]) -> str:
    return "".join(event.text for batch in batches for event in batch if isinstance(event, TextDeltas))


def deltas(*texts: str) -> list[Line]:
    return [Line("a0", text) for text in texts]


async def first_of(asker: Asker, play: Play) -> ArenaAnswer:
    """An answer whose first part has been read."""
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


async def test_a_flow_passes_batches_on_and_leaves_the_end_to_read(asker: Asker, arena: Arena) -> None:
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


async def test_deltas_that_arrive_with_the_end_of_an_answer_are_left_to_read(asker: Asker, arena: Arena) -> None:
    play, take = Play(arena, deltas("one "), [*deltas("two"), FINISH]), Taker()
    answer = await first_of(asker, play)
    play.part(1)
    await asyncio.wait_for(answer.flow(take), 5)
    rest = await rest_of(answer)
    assert text_of([*take.batches, *rest]) == "two"
    assert rest[-1][-1] == Finish("stop")


async def test_a_flow_ends_when_the_callback_returns_false(asker: Asker, arena: Arena) -> None:
    play, take = Play(arena, deltas("one "), deltas("two "), [*deltas("three"), FINISH]), Taker(most=1)
    answer = await first_of(asker, play)
    play.part(1)
    await asyncio.wait_for(answer.flow(take), 5)
    assert text_of(take.batches) == "two "
    play.part(2)
    assert text_of(await rest_of(answer)) == "three"


async def test_an_exception_of_the_callback_is_raised_by_flow(asker: Asker, arena: Arena) -> None:
    def refuse(_: list[Event]) -> bool:
        raise ConnectionResetError("the caller has gone")

    play = Play(arena, deltas("one "), deltas("two "), [FINISH])
    answer = await first_of(asker, play)
    play.part(1)
    with pytest.raises(ConnectionResetError, match="the caller has gone"):
        await asyncio.wait_for(answer.flow(refuse), 5)
    await answer.aclose()
    await asyncio.wait_for(arena.calls[-1].closed.wait(), 10)


@pytest.mark.parametrize(
    ("end", "error"),
    [([Close()], Truncated), ([Abort()], Truncated), ([], TimedOut)],
    ids=["the connection closed", "the connection reset", "silence"],
)
async def test_read_returns_the_failure_of_an_answer_that_breaks_off(
    impatient: Asker, arena: Arena, end: list[Step], error: type[UpstreamError]
) -> None:
    play = Play(arena, deltas("one "), deltas("two "), end, [Until(asyncio.Event())])
    answer, take = await first_of(impatient, play), Taker()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
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


async def test_a_delay_of_the_reader_between_flows_is_not_a_timeout(arena: Arena) -> None:
    play = Play(arena, deltas("one "), deltas("two "), [*deltas("three"), FINISH])
    async with connected(arena.origin, idle_timeout=SHORT_SECONDS) as arena_client:
        answer, take = await first_of(Asker(arena, arena_client, arena.sign_in()), play), Taker(most=1)
        play.part(1)
        await asyncio.wait_for(answer.flow(take), 5)
        await asyncio.sleep(1.2 * SHORT_SECONDS)
        play.part(2)
        assert text_of(await rest_of(answer)) == "three"


async def test_a_flow_after_the_last_batch_does_not_wait_for_the_transport_to_end(asker: Asker, arena: Arena) -> None:
    play_all(arena, *deltas("one"), Line("a3", "Overloaded"), silence())
    answer = await asker.open()
    async with asyncio.timeout(5):
        while not answer.ended:
            await answer.read()
        await answer.flow(Taker())
    await answer.aclose()


@pytest.mark.parametrize("chunk_bytes", [1, 3, 7])
async def test_ten_thousand_chunks_in_a_packet_stay_in_order(asker: Asker, arena: Arena, chunk_bytes: int) -> None:
    """The chunks are more than one read returns, and a read may end inside a chunk."""
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


async def test_a_large_read_is_passed_on_in_pieces(asker: Asker, arena: Arena) -> None:
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


async def test_closing_an_answer_twice_does_not_affect_the_next_answer(asker: Asker, arena: Arena) -> None:
    """A request with a second turn closes its first answer before that turn, and once more at its end."""
    play_all(arena, *deltas("one"), FINISH)
    closed = await asker.open()
    await rest_of(closed)
    play = Play(arena, deltas("one "), [*deltas("two"), FINISH])
    answer = await first_of(asker, play)
    assert answer._connection is closed._connection
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        rest = group.create_task(rest_of(answer))
        await asyncio.sleep(0)
        group.create_task(closed.aclose())
        await asyncio.sleep(0)
        play.part(1)
    assert text_of(rest.result()) == "two"


def silence() -> Until:
    """A pause until the caller leaves."""
    return Until(asyncio.Event())


def play_all(arena: Arena, *steps: Step) -> None:
    """Make every answer consist of these steps, with their pauses."""
    arena.script = lambda _: steps


class TestSilenceBeforeTheAnswer:
    """Heartbeats extend the deadline for the first event; only an event begins the answer."""

    @pytest.mark.parametrize(
        "steps",
        [[], [HEARTBEAT], [Line("af", {}), Line("zz", 0)], [Raw(b'a0:"not yet a li')]],
        ids=["not a byte", "a heartbeat", "bookkeeping", "part of a line"],
    )
    async def test_an_answer_without_an_event_before_the_timeout_is_silent(
        self, asker: Asker, arena: Arena, steps: list[Step]
    ) -> None:
        play_all(arena, *steps, silence())
        answer = await asker.open(timeout=SHORT_SECONDS)
        with pytest.raises(SilentAnswer, match="accepted the call and then sent no answer") as failed:
            await asyncio.wait_for(answer.begin(), 5)
        await answer.aclose()
        assert failed.value.repeat is Repeat.POSSIBLY_ACCEPTED
        assert failed.value.status is None

    @pytest.mark.parametrize("kind", ["heartbeat", "bookkeeping", "a byte"])
    async def test_heartbeats_extend_the_deadline(self, arena: Arena, kind: str) -> None:
        signs: dict[str, Step] = {"heartbeat": HEARTBEAT, "bookkeeping": Line("af", {}), "a byte": Raw(b"\n")}
        play_all(arena, *[signs[kind], *BEAT[1:]] * 4, *deltas("one"), FINISH)
        async with connected(arena.origin, idle_timeout=60) as arena_client:
            asker = Asker(arena, arena_client, arena.sign_in())
            assert text_of([await asker.ask(timeout=SHORT_SECONDS)]) == "one"

    async def test_heartbeats_extend_the_deadline_by_no_more_than_the_first_byte_timeout(self, arena: Arena) -> None:
        play_all(arena, *BEAT * 4, silence())
        async with connected(arena.origin, idle_timeout=60) as arena_client:
            events = await asyncio.wait_for(Asker(arena, arena_client, arena.sign_in()).ask(timeout=SHORT_SECONDS), 10)
        assert isinstance(last := events[-1], Failure)
        assert isinstance(last.error, SilentAnswer)

    async def test_heartbeats_never_shorten_the_deadline(self, impatient: Asker, arena: Arena) -> None:
        """After a heartbeat the idle timeout does not apply yet."""
        play_all(arena, HEARTBEAT, Pause(SHORT_SECONDS), *deltas("one"), FINISH)  # more than twice the idle timeout
        assert text_of([await impatient.ask(timeout=5)]) == "one"

    @pytest.mark.parametrize("flowing", [False, True])
    async def test_an_empty_delta_begins_the_answer(self, impatient: Asker, arena: Arena, flowing: bool) -> None:
        """From then on the idle timeout applies, and silence is a timeout but not a silent answer."""
        play_all(arena, HEARTBEAT, Line("ag", ""), silence())
        answer = await impatient.open(timeout=60)
        async with asyncio.timeout(5):
            if flowing:
                await answer.flow(Taker())
            with pytest.raises(TimedOut) as failed:
                await answer.begin()
        await answer.aclose()
        assert type(failed.value) is TimedOut

    async def test_a_flow_of_heartbeats_only_ends_in_a_silent_answer(self, arena: Arena) -> None:
        play_all(arena, *BEAT * 4, silence())
        take = Taker()
        async with connected(arena.origin, idle_timeout=60) as arena_client, asyncio.timeout(10):
            answer = await Asker(arena, arena_client, arena.sign_in()).open(timeout=SHORT_SECONDS)
            await answer.flow(take)
            rest = await rest_of(answer)
        assert not take.batches
        assert isinstance(last := rest[-1][-1], Failure)
        assert isinstance(last.error, SilentAnswer)


class TestHeartbeatsInTheMiddle:
    @pytest.mark.parametrize("flowing", [False, True])
    async def test_heartbeats_reset_the_idle_timeout_and_are_not_passed_on(self, arena: Arena, flowing: bool) -> None:
        picture = Line("a2", [{"type": "image", "image": "https://r2/1.png"}])
        play_all(arena, *deltas("one "), *BEAT * 4, picture, *BEAT * 4, *deltas("two"), FINISH)
        take = Taker()
        async with connected(arena.origin, idle_timeout=SHORT_SECONDS) as arena_client, asyncio.timeout(10):
            answer = await Asker(arena, arena_client, arena.sign_in()).open()
            if flowing:
                await answer.flow(take)
            batches = [*take.batches, *await rest_of(answer)]
        assert all(batches)
        assert text_of(batches) == "one two"
        assert [Images(("https://r2/1.png",))] in batches
        assert batches[-1][-1] == Finish("stop")
        assert answer.unknown == {}

    async def test_silence_after_heartbeats_is_a_timeout(self, impatient: Asker, arena: Arena) -> None:
        play_all(arena, *deltas("one "), HEARTBEAT, silence())
        events = await asyncio.wait_for(impatient.ask(), 5)
        assert isinstance(last := events[-1], Failure)
        assert type(last.error) is TimedOut


class TestAnswersWithoutContent:
    WHY = Line("ae", {"message": "Your credits are used up."})

    @pytest.mark.parametrize(
        "steps",
        [
            [WHY, FINISH],
            [WHY, Line("ad", {})],
            [Line("a0", ""), HEARTBEAT, WHY, Pause(0), FINISH],
            [WHY, Line("a0", "hasArenaError")],
            [WHY, Line("ad", {"finishReason": "error"})],
        ],
        ids=["finish", "finish without a reason", "in several reads", "hasArenaError", "finish error"],
    )
    async def test_bookkeeping_explains_an_empty_answer(self, asker: Asker, arena: Arena, steps: list[Step]) -> None:
        play_all(arena, *steps)
        answer = await asker.open()
        with pytest.raises(ModelFailed, match=r"The model failed: Your credits are used up\.") as failed:
            await answer.begin()
        await answer.aclose()
        assert failed.value.detail == "Your credits are used up."

    @pytest.mark.parametrize(
        ("steps", "error", "detail"),
        [
            ([FINISH], EmptyAnswer, ""),
            ([HEARTBEAT, Line("ae", {"message": ""}), FINISH], EmptyAnswer, ""),
            ([Line("a0", "hasArenaError")], ModelFailed, ""),
            ([WHY, Line("a3", {"error": {"message": "Overloaded"}})], ModelFailed, "Overloaded"),
            ([WHY, Close()], Truncated, ""),
        ],
        ids=["no words", "empty words", "hasArenaError", "better words", "broken off"],
    )
    async def test_bookkeeping_does_not_explain_other_failures(
        self, asker: Asker, arena: Arena, steps: list[Step], error: type[UpstreamError], detail: str
    ) -> None:
        play_all(arena, *steps)
        answer = await asker.open()
        with pytest.raises(error) as failed:
            await answer.begin()
        await answer.aclose()
        assert type(failed.value) is error
        assert failed.value.detail == detail

    @pytest.mark.parametrize(
        ("steps", "text", "last"),
        [
            ([WHY, *deltas("one"), FINISH], "one", "stop"),
            ([WHY, Line("ad", {"finishReason": "content-filter"})], "", "content-filter"),
        ],
        ids=["text", "withheld"],
    )
    async def test_a_complete_answer_is_not_affected_by_bookkeeping(
        self, asker: Asker, arena: Arena, steps: list[Step], text: str, last: str
    ) -> None:
        play_all(arena, *steps)
        answer = await asker.open()
        await answer.begin()
        batches = await rest_of(answer)
        assert text_of(batches) == text
        assert batches[-1][-1] == Finish(last)


async def test_counts_of_unknown_kinds_are_available_after_the_end_of_an_answer(asker: Asker, arena: Arena) -> None:
    routed = Line("a2", [{"type": "routed_model"}, {"type": "heartbeat"}])
    play_all(arena, Line("ah", {}), routed, *deltas("one"), Raw(b"<html>\n"), Line("ah", {}), FINISH)
    answer = await asker.open()
    assert text_of(await rest_of(answer)) == "one"
    assert answer.unknown == {"tag ah": 2, "item routed_model": 1, "no tag": 1}
