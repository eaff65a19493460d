"""The moment between the last accepted connection and the drain: requests that are on their way are still answered.

Once the daemon drains, each further request gets a 503, though another process could serve it: the successor, or the
one that the service manager starts with the same socket. So a caller that had connected before gets a moment to send
its request:

    accepted ──head──▶ connection made ──▶ handler begins ──body, limits──▶ answer begins
    `pending`                     `unasked`, `is_coming`      `_are_being_prepared`    `Drain.running`

A request is seen at each of these steps, without a gap: the steps are left and entered in one turn of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from handlers.daemon.accepting import Listener
from handlers.daemon.listener import connections_of
from handlers.request.appkeys import ACTIVITY, DRAIN

#: How long the requests of connections that were just accepted are waited for, alone and beside a successor that serves
#: already, and how often is checked, in seconds.
ALONE_SECONDS: Final = 0.3
BESIDE_SUCCESSOR_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 0.01


async def take_last_requests(
    runner: web.AppRunner, listeners: Sequence[Listener], has_successor: Callable[[], bool]
) -> None:
    """Wait a moment for requests that are on their way; then close idle connections, and the others after their answer.

    Call it after `stop_listening`; the drain begins when it returns. Connections without a request stay open: a client
    whose reused connection is closed opens another one, but it reports a failure if a new one is closed.
    """
    waited = 0.0
    while waited < (BESIDE_SUCCESSOR_SECONDS if has_successor() else ALONE_SECONDS):
        await asyncio.sleep(_CHECK_SECONDS)  # at least one, for what has been read already
        waited += _CHECK_SECONDS
        if not _are_coming(runner, listeners):
            break
    for each in connections_of(runner):
        if not each.unasked:
            each.keep_no_longer()


def _are_coming(runner: web.AppRunner, listeners: Sequence[Listener]) -> bool:
    return (
        any(each.pending for each in listeners)
        or any(each.unasked or each.is_coming for each in connections_of(runner))
        or runner.app[DRAIN].incoming_bodies > 0
        or _are_being_prepared(runner.app)
    )


def _are_being_prepared(app: web.Application) -> bool:
    """Whether a model is to be asked whose answer has not begun: what it needs is being read, counted or claimed."""
    return any(record.lifetime is None for record in app[ACTIVITY].running_newest())
