"""Requests that join the answer of an equal one (`limits.join_repeats`): how they are known, and how they are answered.

The rule is `handlers.request.joinable`'s. Equal requests have the same key, the same API, and the same bytes of a body.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from hashlib import sha256
from typing import Final

from aiohttp import ClientConnectionError, web

from bridge.access.keys import ApiKey
from bridge.access.limits import Slot
from bridge.config.schema import Config
from bridge.dialects.dialect import DialectRequest, Stamp, StreamOpening
from bridge.errors import ApiError
from bridge.headers import CONVERSATION, EVALUATION, IGNORED, MODEL, TOOLS
from handlers.request.aiohttp_internals import ServerConnection
from handlers.request.answers import write_json
from handlers.request.appkeys import BUDGETS, DRAIN, JOINABLE, JOINABLE_ANSWER, KEY, RANDOM, RECORD
from handlers.request.joinable import Mark, Place
from handlers.request.joinable_answer import JoinableAnswer, Opening, Reader
from handlers.request.queued_call import QueuedCall
from handlers.request.record import RequestRecord
from handlers.request.streaming import EventStream

#: What the SDKs that Stainless makes (OpenAI's, Anthropic's) say in each request: how often it has been tried before.
RETRY_HEADER: Final = "x-stainless-retry-count"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
#: With `false` a request wants an answer of its own, which ends when its caller leaves.
JOIN_HEADER: Final = "x-bridge-join"
#: What `x-bridge-conversation` is of a request that has joined an answer.
JOINED: Final = "joined; why=same"

#: A body of at most so many bytes is kept itself, in place of its digest.
_SHORT_BYTES: Final = 256
#: What a caller's connection raises once it is lost.
_GONE: Final = (ConnectionResetError, ClientConnectionError)
#: The headers about an answer that hold for all who are told it.
_ABOUT_ANSWER: Final = (MODEL, IGNORED, EVALUATION, TOOLS)


class Sent:
    """What a request's body is known by; `read` it where it is parsed, which may be in a thread."""

    __slots__ = ("digest",)

    def __init__(self) -> None:
        self.digest = b""

    def read(self, body: bytes) -> None:
        """Take the whole body."""
        self.digest = body if len(body) <= _SHORT_BYTES else sha256(body).digest()


def may_join(request: web.Request, config: Config) -> bool:
    """Whether a request may join an answer, and others may join its own."""
    return config.limits.join_repeats and request.headers.get(JOIN_HEADER) != "false"


def joined(
    request: web.Request, dialect: str, sent: Sent, config: Config, slot: Slot | QueuedCall, *, draws: bool = False
) -> JoinableAnswer | Reader:
    """Join the answer that the request repeats, or begin one that others may join; either is a context.

    Where a request `draws`, an equal one wants a picture of its own unless it is marked as a retry.
    """
    headers, answers = request.headers, request.app[JOINABLE]
    idempotency_key = headers.get(IDEMPOTENCY_HEADER, "")
    mark = Mark.NONE if idempotency_key else _mark(headers.get(RETRY_HEADER))
    place = Place(dialect, request[KEY].id, idempotency_key, sent.digest)
    found = answers.find(place, Mark.FIRST if draws and mark is Mark.NONE and not idempotency_key else mark, config)
    if found is not None:
        if isinstance(slot, QueuedCall) and slot.is_waiting:
            slot.release()  # it asks nothing for which it would need a turn
        return found.join()
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("an answer must be made in a task")
    connection = request.protocol
    begun = request[JOINABLE_ANSWER] = answers.begin(
        place,
        mark,
        config,
        request[RECORD],
        task,
        connection if isinstance(connection, ServerConnection) else None,
        partial(_may_go_on, slot),
    )
    return begun


def _may_go_on(slot: Slot | QueuedCall, joined: int) -> bool:
    """Whether a call may go on without its caller, to whom its place in the limits belongs no longer.

    One that waits for its turn, or for an account on cooldown, keeps the place for those who have joined; where there
    are none, it is given up.
    """
    if isinstance(slot, QueuedCall) and (slot.is_waiting or slot.waiter is not None):
        return joined > 0
    slot.release()
    return True


def _mark(count: str | None) -> Mark:
    if count is None:
        return Mark.NONE
    return Mark.FIRST if count.strip() == "0" else Mark.RETRY


# The caller whose request began the answer


def stream_to(request: web.Request, encoder: StreamOpening, config: Config) -> EventStream:
    """The stream of a request's answer, which goes on without its caller where it may be joined."""
    answer = request.get(JOINABLE_ANSWER)
    if answer is not None:
        return _JoinableStream(request, answer, encoder, config)
    return EventStream(request, encoder, config)


async def write_whole(request: web.Request, body: bytes, config: Config) -> web.StreamResponse:
    """Send a whole answer to its caller, and to all who have joined it."""
    answer = request.get(JOINABLE_ANSWER)
    if answer is None:
        return await write_json(request, body, config)
    answer.add(body)
    answer.complete()
    if not answer.attended:
        raise ConnectionResetError("the caller has disconnected")
    response = await write_json(request, body, config)
    answer.received = True
    return response


class _JoinableStream(EventStream):
    """The stream of the request that began an answer. Once its caller has left, what is written is only kept."""

    def __init__(self, request: web.Request, answer: JoinableAnswer, encoder: StreamOpening, config: Config) -> None:
        opening = answer.opening = Opening(encoder)
        super().__init__(request, opening, config)
        self._answer = answer

    def send(self, data: bytes) -> bool:
        """Write without waiting; return whether all callers keep up."""
        answer = self._answer
        keep_up = answer.add(data)
        if answer.attended:
            try:
                return super().send(data) and keep_up
            except _GONE:
                if not answer.leave():
                    raise
        return keep_up

    async def write(self, data: bytes) -> None:
        """Write, and wait for a slow caller."""
        answer = self._answer
        answer.add(data)
        if answer.attended:
            try:
                await super().write(data)
            except _GONE:
                if not answer.leave():
                    raise
        if not answer.attended:  # others may have been told it: an error must be an event
            self.committed = True
            self._take_opening()
        await answer.room()

    async def drain(self) -> None:
        """Wait until all callers have read enough."""
        answer = self._answer
        if answer.attended:
            try:
                await super().drain()
            except _GONE:
                if not answer.leave():
                    raise
        await answer.room()

    async def end(self, data: bytes) -> None:
        """Write the last part. Raises ConnectionResetError where the caller has left before."""
        answer = self._answer
        if not answer.ended:
            answer.add(data)
            answer.complete()
        if not answer.attended:
            raise ConnectionResetError("the caller has disconnected")
        await super().end(data)
        answer.received = True

    async def write_error(self, data: bytes) -> None:
        """Write the error event that ends a broken stream. Raises ConnectionResetError as `end` does."""
        answer = self._answer
        answer.fail_within(data)
        if not answer.attended:
            raise ConnectionResetError("the caller has disconnected")
        await super().write_error(data)

    def on_timer(self) -> None:
        """Send a keep-alive to a caller that is still there."""
        if self._answer.attended:
            super().on_timer()


# Those who have joined


async def answer_joined(
    request: web.Request, key: ApiKey, asked: DialectRequest | None, reader: Reader, config: Config
) -> web.StreamResponse:
    """Answer with what the caller of an equal request is told, whole if nothing streamed was `asked`.

    Raises ApiError where there is no answer.
    """
    app, record = request.app, request[RECORD]
    if record.spend is not None:  # the request that began the answer counts
        record.spend = None
        app[BUDGETS].refund(key)
    record.headers[CONVERSATION] = JOINED
    with app[DRAIN].bounded(config.upstream.total_timeout) as record.lifetime:
        if asked is not None and asked.chat.stream:
            return await _stream_joined(request, asked, reader, config)
        body = await reader.next()
        _note(record, reader.about)
        response = await write_json(request, body, config)
        reader.receive()
        return response


async def _stream_joined(
    request: web.Request, asked: DialectRequest, reader: Reader, config: Config
) -> web.StreamResponse:
    began, record = time.monotonic(), request[RECORD]
    encoder = asked.encoder(Stamp(request.app[RANDOM](16).hex(), int(began), 0))  # for what comes before an answer
    caller = _JoinedStream(request, reader, encoder, config)
    with caller:
        try:
            while True:
                data = await reader.next()
                _note(record, reader.about)
                if record.ttft is None and data:
                    record.ttft = time.monotonic() - began
                if reader.at_end:
                    break
                await caller.write(data)
        except ApiError as error:
            if not caller.committed:
                raise
            record.fail(error)
            if caller.started:
                encoder.start()  # an encoder that has not been started may tell an error with its opening
            await caller.write_error(encoder.error(error))
            return caller.response
        failure = reader.failure
        if failure is None:
            await caller.end(data)
            reader.receive()
        else:
            about = reader.about
            record.reason, record.code, record.refused = about.reason, about.code, about.refused
            record.message = about.message
            if data:
                await caller.write(data)
            await caller.write_error(failure if caller.started else reader.begun + failure)
    return caller.response


def _note(record: RequestRecord, about: RequestRecord) -> None:
    """Say of a joined answer what is known of it: all but its account, which this request does not burden."""
    record.served = about.served
    for name in _ABOUT_ANSWER:
        if name in about.headers:
            record.headers[name] = about.headers[name]


class _JoinedStream(EventStream):
    """The stream of a caller that has joined an answer: it begins as that does, once that is known."""

    def __init__(self, request: web.Request, reader: Reader, encoder: StreamOpening, config: Config) -> None:
        super().__init__(request, _JoinedOpening(reader, encoder), config)
        self._reader = reader

    def _take_opening(self) -> bytes:
        return b"" if self._reader.opening is None else super()._take_opening()


class _JoinedOpening:
    """What a joined stream needs of an encoder: that of the answer, as soon as there is one."""

    def __init__(self, reader: Reader, encoder: StreamOpening) -> None:
        self._reader = reader
        self.keepalive = encoder.keepalive

    def start(self) -> bytes:
        """Encode what the answer's stream begins with."""
        opening = self._reader.opening
        return b"" if opening is None else opening.start()

    def idle(self) -> bytes:
        """Encode a keep-alive as the answer's stream has it."""
        opening = self._reader.opening
        return self.keepalive if opening is None else opening.idle()
