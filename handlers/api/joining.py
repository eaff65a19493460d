"""Requests that join the answer to an equal one (`limits.join_repeats`): how they are recognised and answered.

Requests are equal if they have the same API key, API and body; `handlers.request.joinable` has the rules.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from hashlib import sha256
from typing import Final

from aiohttp import ClientConnectionError, web

from bridge.access.limits import Slot
from bridge.dialects.dialect import DialectRequest, Stamp, StreamOpening
from bridge.errors import ApiError
from bridge.headers import CONVERSATION, EVALUATION, IGNORED, MODEL, TOOLS
from handlers.request.aiohttp_internals import ServerConnection
from handlers.request.answers import write_json
from handlers.request.appkeys import DRAIN, JOINABLE, RANDOM
from handlers.request.joinable import RequestIdentity, RetryMark
from handlers.request.joinable_answer import JoinableAnswer, Opening, Reader
from handlers.request.model_call import ModelCall
from handlers.request.queued_call import QueuedCall
from handlers.request.record import RequestRecord
from handlers.request.streaming import EventStream

#: How often a request has been tried before, as SDKs made by Stainless (OpenAI's, Anthropic's) send it.
RETRY_HEADER: Final = "x-stainless-retry-count"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
#: With `false` a request gets an answer of its own, which ends when its caller leaves.
JOIN_HEADER: Final = "x-bridge-join"
#: The value of `x-bridge-conversation` for a request that has joined an answer.
JOINED: Final = "joined; why=same"

#: A body or an idempotency key up to this size is kept itself, in place of its digest.
_SHORT_BYTES: Final = 256
#: What writing to a lost connection raises.
_DISCONNECTED: Final = (ConnectionResetError, ClientConnectionError)
#: The headers about an answer that are the same for all its callers.
_ABOUT_ANSWER: Final = (MODEL, IGNORED, EVALUATION, TOOLS)


class BodyDigest:
    """The digest of a request's body, or the body itself if it is short; b'' until `compute`.

    It is computed where the body is parsed, which may be in a thread.
    """

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = b""

    def compute(self, body: bytes) -> None:
        """Compute the digest of the whole body."""
        self.value = body if len(body) <= _SHORT_BYTES else sha256(body).digest()


def may_join(call: ModelCall) -> bool:
    """Whether a request may join an answer, and others may join its own."""
    return call.config.limits.join_repeats and call.request.headers.get(JOIN_HEADER) != "false"


def join_or_begin(
    call: ModelCall, dialect: str, digest: BodyDigest, slot: Slot | QueuedCall, *, draws: bool = False
) -> JoinableAnswer | Reader:
    """Join the answer to an equal request, or begin one that others may join; either is a context.

    A request that `draws` gets a picture of its own unless it is marked as a retry.
    """
    request, config, answers = call.request, call.config, call.app[JOINABLE]
    headers = request.headers
    idempotency_key = _shortened(headers.get(IDEMPOTENCY_HEADER, ""))
    mark = RetryMark.NONE if idempotency_key else _mark(headers.get(RETRY_HEADER))
    identity = RequestIdentity(dialect, call.key.id, idempotency_key, digest.value)
    is_own = draws and mark is RetryMark.NONE and not idempotency_key
    found = answers.find(identity, RetryMark.FIRST if is_own else mark, config)
    if found is not None:
        if isinstance(slot, QueuedCall) and slot.is_waiting:
            slot.release()  # it asks no model, and so needs no turn
        return found.join()
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("an answer must be made in a task")
    connection = request.protocol
    begun = call.joinable = answers.begin(
        identity,
        mark,
        config,
        call.record,
        task,
        connection if isinstance(connection, ServerConnection) else None,
        partial(_may_go_on, slot),
    )
    return begun


def _may_go_on(slot: Slot | QueuedCall, joined: int) -> bool:
    """Whether a call may go on after its caller has left; if so, it no longer counts in the key's limits.

    One that still waits in a queue goes on only if others have joined it, and keeps its place there.
    """
    if isinstance(slot, QueuedCall) and (slot.is_waiting or slot.waiter is not None):
        return joined > 0
    slot.release()
    return True


def _shortened(idempotency_key: str) -> str:
    """The key, or its digest if it is long: it is kept with the answer, and a header may have 64 KiB."""
    if len(idempotency_key) <= _SHORT_BYTES:
        return idempotency_key
    return sha256(idempotency_key.encode(errors="surrogateescape")).hexdigest()


def _mark(count: str | None) -> RetryMark:
    if count is None:
        return RetryMark.NONE
    return RetryMark.FIRST if count.strip() == "0" else RetryMark.RETRY


# For the caller whose request began the answer


def stream_to(call: ModelCall, encoder: StreamOpening) -> EventStream:
    """The stream of a request's answer; one that may be joined can go on without its caller."""
    if call.joinable is not None:
        return _JoinableStream(call, call.joinable, encoder)
    return EventStream(call, encoder)


async def write_whole(call: ModelCall, body: bytes) -> web.StreamResponse:
    """Send a whole answer to its caller, and to all who have joined it."""
    answer = call.joinable
    if answer is None:
        return await write_json(call.request, body, call.config)
    answer.add(body)
    answer.complete()
    if not answer.attended:
        raise ConnectionResetError("the caller has disconnected")
    response = await write_json(call.request, body, call.config)
    answer.received = True
    return response


class _JoinableStream(EventStream):
    """The stream of the request that began an answer. Once its caller has left, writes are only kept for readers."""

    def __init__(self, call: ModelCall, answer: JoinableAnswer, encoder: StreamOpening) -> None:
        opening = answer.opening = Opening(encoder)
        super().__init__(call, opening)
        self._answer = answer

    def send(self, data: bytes) -> bool:
        """Write without waiting; return whether all callers keep up."""
        answer = self._answer
        readers_keep_up = answer.add(data)
        if answer.attended:
            try:
                return super().send(data) and readers_keep_up
            except _DISCONNECTED:
                if not answer.disconnect():
                    raise
        return readers_keep_up

    async def write(self, data: bytes) -> None:
        """Write, and wait for a slow caller."""
        answer = self._answer
        answer.add(data)
        if answer.attended:
            try:
                await super().write(data)
            except _DISCONNECTED:
                if not answer.disconnect():
                    raise
        if not answer.attended:  # readers may have got it: an error must be an event
            self.committed = True
            self._take_opening()
        await answer.wait_for_readers()

    async def drain(self) -> None:
        """Wait until all callers have read enough."""
        answer = self._answer
        if answer.attended:
            try:
                await super().drain()
            except _DISCONNECTED:
                if not answer.disconnect():
                    raise
        await answer.wait_for_readers()

    async def end(self, data: bytes) -> None:
        """Write the last part. Raises ConnectionResetError if the caller has left."""
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
        answer.fail_in_stream(data)
        if not answer.attended:
            raise ConnectionResetError("the caller has disconnected")
        await super().write_error(data)

    def on_timer(self) -> None:
        """Send a keep-alive to a caller that is still there."""
        if self._answer.attended:
            super().on_timer()


# For callers that have joined


async def answer_joined(call: ModelCall, parsed: DialectRequest | None, reader: Reader) -> web.StreamResponse:
    """Answer with what the caller of an equal request gets; `parsed` is None if the answer is always whole.

    Raises ApiError if there is no answer.
    """
    app, record = call.app, call.record
    record.headers[CONVERSATION] = JOINED
    with app[DRAIN].bounded(call.config.upstream.total_timeout) as record.lifetime:
        if parsed is not None and parsed.chat.stream:
            return await _stream_joined(call, parsed, reader)
        body = await _next(record, reader)
        response = await write_json(call.request, body, call.config)
        reader.mark_received()
        return response


async def _stream_joined(call: ModelCall, parsed: DialectRequest, reader: Reader) -> web.StreamResponse:
    began, record = time.monotonic(), call.record
    # For errors and keep-alives before the answer begins.
    encoder = parsed.encoder(Stamp(call.app[RANDOM](16).hex(), int(time.time()), 0))
    caller = _JoinedStream(call, reader, encoder)
    with caller:
        try:
            while True:
                data = await _next(record, reader)
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
                encoder.start()  # else it may send its opening with the error
            await caller.write_error(encoder.error(error))
            return caller.response
        failure = reader.failure
        if failure is None:
            await caller.end(data)
            reader.mark_received()
        else:
            begun_by = reader.begun_by
            record.reason, record.code, record.refused = failure.reason, begun_by.code, begun_by.refused
            record.message = begun_by.message
            if data:
                await caller.write(data)
            await caller.write_error(failure.event if caller.started else reader.sent_opening + failure.event)
    return caller.response


async def _next(record: RequestRecord, reader: Reader) -> bytes:
    """Wait for the next parts of a joined answer; b'' at the end. Raises ApiError if there is no answer.

    The record gets the model and the headers about the answer; not its account, which this request does not use.
    """
    try:
        return await reader.next()
    finally:
        begun_by = reader.begun_by
        record.served = begun_by.served
        record.headers |= {name: begun_by.headers[name] for name in _ABOUT_ANSWER if name in begun_by.headers}


class _JoinedStream(EventStream):
    """The stream of a caller that has joined an answer; it has the answer's opening, once that is known."""

    def __init__(self, call: ModelCall, reader: Reader, encoder: StreamOpening) -> None:
        super().__init__(call, _JoinedOpening(reader, encoder))
        self._reader = reader

    def _take_opening(self) -> bytes:
        return b"" if self._reader.opening is None else super()._take_opening()


class _JoinedOpening:
    """The opening of a joined stream: the answer's, as soon as there is one."""

    def __init__(self, reader: Reader, encoder: StreamOpening) -> None:
        self._reader = reader
        self.keepalive = encoder.keepalive

    def start(self) -> bytes:
        """The opening of the answer's stream; b'' if it is not known yet."""
        opening = self._reader.opening
        return b"" if opening is None else opening.start()

    def idle(self) -> bytes:
        """A keep-alive in the form of the answer's stream."""
        opening = self._reader.opening
        return self.keepalive if opening is None else opening.idle()
