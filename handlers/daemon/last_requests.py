"""The moment between the last accepted connection and the drain, in which requests on their way are still answered.

Once the daemon drains, each further request gets a 503, though another process could serve it: the successor, or the
one that the service manager starts with the same socket. So a caller that had connected before gets a moment to send
its request:

    accepted        `Listener.pending`
       │ head
    connection made `is_unused`, `has_unhandled_request`
       │
    handler begins  `Drain.incoming_bodies`, `_is_any_preparing`
       │ body, limits
    answer begins   `Drain.running`

A request is seen at each of these steps, without a gap: it passes from one to the next in one iteration of the event
loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from handlers.daemon.accepting import Listener
from handlers.daemon.listening import connections_of
from handlers.request.appkeys import ACTIVITY, DRAIN

#: How long requests on their way are waited for, alone and beside a successor that serves already, and how often they
#: are checked, in seconds.
ALONE_SECONDS: Final = 0.3
BESIDE_SUCCESSOR_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 0.01


async def take_last_requests(
    runner: web.AppRunner, listeners: Sequence[Listener], has_successor: Callable[[], bool]
) -> None:
    """Wait a moment for requests that are on their way; then close used connections, now or after their answers.

    Call it after `stop_listening`, and begin the drain when it returns. Unused connections stay open: a client opens
    another connection if one that it reuses is closed, but reports a failure if a new one is.
    """
    waited = 0.0
    while waited < (BESIDE_SUCCESSOR_SECONDS if has_successor() else ALONE_SECONDS):
        await asyncio.sleep(_CHECK_SECONDS)  # at least once, for what has been read already
        waited += _CHECK_SECONDS
        if not _is_any_on_its_way(runner, listeners):
            break
    for each in connections_of(runner):
        if not each.is_unused:
            each.close_when_idle()


def _is_any_on_its_way(runner: web.AppRunner, listeners: Sequence[Listener]) -> bool:
    return (
        any(each.pending for each in listeners)
        or any(each.is_unused or each.has_unhandled_request for each in connections_of(runner))
        or runner.app[DRAIN].incoming_bodies > 0
        or _is_any_preparing(runner.app)
    )


def _is_any_preparing(app: web.Application) -> bool:
    """Whether the answer to a request that asks a model has not begun: its body, tokens or limits are being handled."""
    return any(record.lifetime is None for record in app[ACTIVITY].running_newest())
