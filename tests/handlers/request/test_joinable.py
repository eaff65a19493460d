"""The table of joinable answers, with a manual clock: who joins, and how much of an answer is kept for how long."""

from __future__ import annotations

import asyncio

import pytest

from bridge.config.schema import Config
from bridge.errors import ApiError, internal_error
from bridge.tasks import TaskOwner
from handlers.request import joinable, joinable_answer
from handlers.request.joinable import GRACE_SECONDS, JoinableAnswers, RequestIdentity, RetryMark
from handlers.request.joinable_answer import JoinableAnswer
from handlers.request.record import RequestRecord

CONFIG = Config.read({})
IDENTITY = RequestIdentity("chat", "key", "", b"body")
NONE, FIRST, RETRY = RetryMark.NONE, RetryMark.FIRST, RetryMark.RETRY


class Timers:
    """Timers that expire when a test advances the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.set_at: dict[JoinableAnswer, float] = {}

    def set(self, timer: JoinableAnswer, at: float) -> None:
        self.set_at[timer] = at

    def cancel(self, timer: JoinableAnswer) -> None:
        self.set_at.pop(timer, None)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer, at in self.set_at.items() if at <= self.now]:
            del self.set_at[timer]
            timer.on_timer()


class Table:
    """A table of joinable answers, each with a future in place of its task."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.answers = JoinableAnswers(self.timers, lambda: self.timers.now)
        self.tasks: list[asyncio.Future[None]] = []
        self.freed = 0

    def begin(self, mark: RetryMark = NONE, identity: RequestIdentity = IDENTITY) -> JoinableAnswer:
        self.tasks.append(asyncio.get_running_loop().create_future())
        answer = self.answers.begin(identity, mark, CONFIG, RequestRecord("req"), self.tasks[-1], None, self.free)
        return answer.__enter__()

    def free(self, _: int) -> bool:
        self.freed += 1
        return True

    def joins(self, *, identity: RequestIdentity = IDENTITY, config: Config = CONFIG) -> set[RetryMark]:
        """The retry marks with which a request would join."""
        return {mark for mark in RetryMark if self.answers.find(identity, mark, config) is not None}


@pytest.fixture
def table() -> Table:
    return Table()


def end(answer: JoinableAnswer, *, received: bool = True) -> None:
    """Complete an answer; `received` says whether its caller was there to receive the end."""
    answer.add(b"end")
    answer.complete()
    answer.received = answer.received or received
    answer.__exit__(None, None, None)


async def test_each_state_of_an_answer_decides_which_requests_join_it(table: Table) -> None:
    assert table.joins() == set()
    answer = table.begin()
    assert table.joins() == {NONE, RETRY}, "its caller waits"
    assert table.joins(identity=IDENTITY._replace(key_id="another")) == set()
    assert table.joins(identity=IDENTITY._replace(idempotency_key="a")) == set()
    assert table.joins(config=Config.read({"limits": {"rpm": 1}})) == set(), "a name may stand for another model now"
    assert answer.disconnect()
    assert table.freed == 1
    assert table.joins() == {NONE, FIRST, RETRY}, "nobody waits"
    with answer.join():
        assert table.joins() == {NONE, RETRY}, "one who has joined waits"
    end(answer, received=False)
    assert table.joins() == {NONE, FIRST, RETRY}, "nobody was given the end"
    table.timers.wait(GRACE_SECONDS - 1)
    assert table.joins() == {NONE, FIRST, RETRY}
    table.timers.wait(1)
    assert table.joins() == set()
    assert table.answers.kept_bytes == 0


@pytest.mark.parametrize(("first", "later"), [(NONE, set()), (FIRST, {RETRY}), (RETRY, {RETRY})])
async def test_a_delivered_answer_is_kept_only_for_clients_that_mark_their_retries(
    table: Table, first: RetryMark, later: set[RetryMark]
) -> None:
    end(table.begin(first))
    assert table.joins() == later
    if later:
        table.timers.wait(GRACE_SECONDS)
    assert table.joins() == set()
    assert (table.answers.kept_bytes, table.timers.set_at) == (0, {})


async def test_the_same_idempotency_key_joins_in_every_state(table: Table) -> None:
    identity = IDENTITY._replace(idempotency_key="a")
    answer = table.begin(identity=identity)
    assert table.answers.find(identity, NONE, CONFIG) is answer
    end(answer)
    assert table.answers.find(identity, NONE, CONFIG) is answer


async def test_a_retry_joins_only_the_disconnected_one_of_two_equal_requests(table: Table) -> None:
    first, second = table.begin(FIRST), table.begin(FIRST)
    assert table.joins() == {NONE}
    first.disconnect()
    assert table.answers.find(IDENTITY, RETRY, CONFIG) is first
    end(second)
    end(first)
    assert table.joins() == set()
    third = table.begin(FIRST)
    end(third)
    assert table.answers.find(IDENTITY, RETRY, CONFIG) is third
    table.begin(FIRST)
    assert table.answers.find(IDENTITY, RETRY, CONFIG) is not third, "its caller has had it, and wants another"


async def test_an_unattended_answer_is_cancelled_after_the_grace_period(table: Table) -> None:
    answer = table.begin()
    answer.disconnect()
    table.timers.wait(GRACE_SECONDS - 1)
    reader = answer.join()
    table.timers.wait(GRACE_SECONDS)
    assert not table.tasks[0].cancelled()
    reader.__exit__(None, None, None)
    table.timers.wait(GRACE_SECONDS - 1)
    assert not table.tasks[0].cancelled()
    table.timers.wait(1)
    assert table.tasks[0].cancelled()


async def test_the_oldest_unattended_answer_is_cancelled_above_the_limit_per_key_and_in_total(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joinable, "MAX_UNATTENDED_PER_KEY", 2)
    monkeypatch.setattr(joinable, "MAX_UNATTENDED", 3)

    def leave(key_id: str) -> list[bool]:
        table.begin(identity=IDENTITY._replace(key_id=key_id, body=b"%d" % len(table.tasks))).disconnect()
        return [task.cancelled() for task in table.tasks]

    leave("a")
    assert leave("a") == [False, False]
    assert leave("a") == [True, False, False]
    assert leave("b") == [True, False, False, False]
    assert leave("c") == [True, True, False, False, False]
    table.answers.close()
    assert leave("d") == [True] * 5 + [False], "it is for the connection to end this one, as without joining"


async def test_kept_answers_are_dropped_above_the_total_number_of_bytes(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joinable, "MAX_TOTAL_BYTES", 1000)
    ended = table.begin(FIRST)
    ended.add(b"x" * 500)
    end(ended)
    running = table.begin(identity=IDENTITY._replace(body=b"another"))
    assert running.add(b"x" * 600)
    assert table.joins() == set(), "what has ended makes room"
    assert table.joins(identity=running.identity) == {NONE, RETRY}
    assert running.add(b"x" * 600)
    assert table.joins(identity=running.identity) == set()
    assert table.answers.kept_bytes == 0
    assert running.add(b"x" * 600)


async def test_every_reader_gets_the_whole_answer_and_a_slow_one_delays_it(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joinable_answer, "MAX_ANSWER_BYTES", 1000)
    answer = table.begin()
    quick, slow = answer.join(), answer.join()
    told = {quick: b"", slow: b""}
    parts = [b"%d" % number * 300 for number in range(3)]
    for part in parts:
        keep_up = answer.add(part)
        told[quick] += answer.take(quick)
        assert keep_up == (part is not parts[-1])
    assert table.joins() == set()
    async with TaskOwner() as tasks:
        waiting = tasks.spawn(answer.wait_for_readers(), name="room")
        await asyncio.sleep(0)
        assert not waiting.done()
        told[slow] += answer.take(slow)
        await waiting
    end(answer)
    for reader in told:
        told[reader] += answer.take(reader)
        assert reader.at_end
        assert told[reader] == b"".join(parts) + b"end"
        reader.__exit__(None, None, None)
    assert table.answers.kept_bytes == 0


@pytest.mark.parametrize("error", [internal_error(), ValueError("a bug"), asyncio.CancelledError()])
async def test_joined_readers_get_an_error_when_the_answer_fails(table: Table, error: BaseException) -> None:
    answer = table.begin()
    reader = answer.join()
    answer.__exit__(type(error), error, None)
    with pytest.raises(ApiError):
        await reader.next()
    reader.__exit__(None, None, None)
    assert table.joins() == set()
    assert table.answers.kept_bytes == 0


async def test_closing_the_table_cancels_unattended_answers(table: Table) -> None:
    answer = table.begin()
    answer.disconnect()
    await table.answers.aclose()
    assert table.tasks[0].cancelled()
    assert table.joins() == set()


async def test_during_a_drain_an_answer_is_cancelled_when_its_last_reader_leaves(table: Table) -> None:
    answer = table.begin()
    with answer.join():
        table.answers.close()
        assert answer.disconnect(), "one who has joined waits"
        assert not table.tasks[0].cancelled()
    assert table.tasks[0].cancelled()
    assert table.timers.set_at == {}
