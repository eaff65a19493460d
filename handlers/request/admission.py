"""Admission of calls that ask a model: the key's limits, and memory for a large body."""

from __future__ import annotations

import time

from bridge.access.budgets import BudgetExceeded
from bridge.access.limits import Admission, LimitExceeded, SharedLimits, Slot
from bridge.diagnosis import HOW_LONG_BY_HEADER
from bridge.errors import ApiError, budget_exceeded, overloaded
from handlers.request.appkeys import (
    API,
    BODY_BUDGET,
    BUDGETS,
    CALL_QUEUE,
    DRAIN,
    JOINABLE,
    LIMITER,
    SHARED_LIMITS,
    TIMERS,
)
from handlers.request.budget import Hold
from handlers.request.model_call import ModelCall
from handlers.request.queued_call import QueuedCall
from upstream.protocol.errors import Reason


def admit(call: ModelCall) -> Slot | QueuedCall:
    """Take one of the key's slots for the call, or a place in the queue for one; either is a context that frees it.

    Raises ApiError: 429, or 503 when all slots of the daemon are taken.
    """
    app, key, record, limits = call.app, call.key, call.record, call.config.limits
    try:
        _check_budget(call)
    except ApiError:
        if not any(answer.identity.key_id == key.id for answer in app[JOINABLE]):
            raise  # else it may be a repetition, which does not count
    rpm, concurrency, streams = key.rpm or limits.rpm, key.concurrency or limits.concurrency, limits.streams
    slot: Slot | QueuedCall
    try:
        if limits.queue_seconds:
            queue = app[CALL_QUEUE]
            place = queue.enter(key.id, rpm=rpm, concurrency=concurrency, streams=streams, seconds=limits.queue_seconds)
            slot = record.queued = QueuedCall(queue, place)
        else:
            slot = app[LIMITER].slot(key.id, rpm=rpm, concurrency=concurrency, streams=streams)
    except LimitExceeded as error:
        raise _refusal(call, error) from None
    _set_limit_headers(call, slot.admission)
    return slot


def _set_limit_headers(call: ModelCall, admission: Admission) -> None:
    call.record.headers.update(call.request[API].limit_headers(admission, time.time()))


def _check_budget(call: ModelCall) -> None:
    if not call.key.budgeted:
        return
    try:
        call.app[BUDGETS].check(call.key)
    except BudgetExceeded as error:
        raise budget_exceeded(error.kind, error.limit, error.retry_after) from None


async def claim(shared: SharedLimits, call: ModelCall) -> None:
    """Claim the slot that this process has just taken in the limits of all processes. Raises ApiError: 429, or 503."""
    key, limits, queued = call.key, call.config.limits, call.record.queued
    if queued is not None and queued.is_waiting:
        return  # it claims its slot when its turn comes
    try:
        admission = await shared.claim(
            key.id,
            rpm=key.rpm or limits.rpm,
            concurrency=key.concurrency or limits.concurrency,
            streams=limits.streams,
        )
    except LimitExceeded as error:
        if queued is not None and error.kind != "rpm":
            queued.defer(error.kind)
            return
        raise _refusal(call, error) from None
    if admission is not None:
        _set_limit_headers(call, admission)


async def wait_for_turn(call: ModelCall) -> None:
    """Wait until a call is served, if it waits in the queue, and count it in its key's budget. Raises ApiError.

    Several tasks of one request may wait; it counts once.
    """
    app, record = call.app, call.record
    queued = record.queued
    if queued is not None and queued.is_waiting:
        try:
            await queued.wait_for_turn(app[TIMERS], app[DRAIN], app[SHARED_LIMITS], record.lifetime)
        except LimitExceeded as error:
            raise _refusal(call, error) from None
    if call.key.budgeted and record.spend is None:
        _check_budget(call)
        record.spend = app[BUDGETS].count(call.key)


def _refusal(call: ModelCall, error: LimitExceeded) -> ApiError:
    """The error for a call beyond a limit; the headers about the limit are set."""
    _set_limit_headers(call, error.admission)
    if error.kind == "streams":
        return overloaded(
            f"The bridge is answering {error.limit} requests already (limits.streams).", error.retry_after
        )
    requests = "1 request" if error.limit == 1 else f"{error.limit} requests"
    when = "in a minute" if error.kind == "rpm" else "at the same time"
    return ApiError(
        429,
        "rate_limit_exceeded",
        f"This API key may make {requests} {when}. Wait {HOW_LONG_BY_HEADER}.",
        reason=Reason.RATE_LIMITED,
        retry_after=error.retry_after,
    )


def hold_memory(call: ModelCall, *, limit: int | None = None) -> Hold:
    """A context that reserves memory for the request's body if that is large. Its entry raises ApiError (503).

    A body that is compressed or has no Content-Length counts as `limit` bytes, by default `server.max_body_bytes`.
    """
    request, server = call.request, call.config.server
    if limit is None:
        limit = server.max_body_bytes
    length = request.content_length
    is_unknown = request.body_exists and (length is None or "Content-Encoding" in request.headers)
    size = limit if is_unknown else length or 0
    if size > limit:
        size = 0  # it will be refused before it is read, so it need not wait for memory
    return call.app[BODY_BUDGET].hold(call.key.id, size, timeout=server.body_timeout)
