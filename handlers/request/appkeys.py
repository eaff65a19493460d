"""Typed keys of the objects that the app owns, and of those that a request carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from aiohttp import web

from bridge.access.budgets import Budgets
from bridge.access.keys import ApiKey
from bridge.access.limits import Limiter, SharedLimits
from bridge.access.waiting import CallQueue
from bridge.accounts.renewals import Renewals
from bridge.activity.store import ActivityStore
from bridge.answering.relay import Relay
from bridge.config.schema import Config
from bridge.dialects.dialect import Api
from bridge.dialects.responses.stored import SharedResponses, StoredResponses
from bridge.models import Models
from bridge.state.model_news import NewsStore
from bridge.state.state import State
from bridge.statistics.file import StatsStore
from bridge.tasks import TaskOwner
from handlers.daemon.connection_limits import ConnectionLimits
from handlers.request.activity import Activity
from handlers.request.budget import ByteBudget
from handlers.request.cooldown_wait import CooldownWait
from handlers.request.drain import Drain
from handlers.request.heavy import HeavyWork
from handlers.request.joinable import JoinableAnswers
from handlers.request.record import RequestRecord
from handlers.request.request_log import RequestLog
from upstream.client import ArenaClient
from upstream.fetch import Fetcher
from upstream.gate import Gate
from upstream.loop.timers import Timers
from upstream.protocol.drift import Drift
from upstream.random_bytes import RandomBytes
from upstream.uploads import Uploads

if TYPE_CHECKING:
    from bridge.shared.sharing import Sharing  # which needs a library that is optional

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Lets a request through to its handler, or raises ApiError.
AccessCheck: TypeAlias = Callable[[web.Request], None]


class Route(NamedTuple):
    """A route's properties apart from its handler: the checks before it, and the API that it speaks.

    `counted_as` is the API's name in the statistics and the log, None if the route asks no model.
    """

    checks: tuple[AccessCheck, ...]
    api: Api
    counted_as: str | None = None


@dataclass(slots=True)
class Settings:
    """The current configuration; a reload replaces it, with effect from the next request on."""

    config: Config

    def current(self) -> Config:
        """The configuration for a new request."""
        return self.config


SETTINGS: Final = web.AppKey("settings", Settings)
STATE: Final = web.AppKey("state", State)
STATS: Final[web.AppKey[StatsStore]] = web.AppKey("stats")
ACTIVITY_STORE: Final[web.AppKey[ActivityStore[RequestRecord]]] = web.AppKey("activity_store", ActivityStore)
ACTIVITY: Final = web.AppKey("activity", Activity)
REQUEST_LOG: Final = web.AppKey("request_log", RequestLog)
TASKS: Final = web.AppKey("tasks", TaskOwner)
CLIENT: Final = web.AppKey("client", ArenaClient)
RENEWALS: Final = web.AppKey("renewals", Renewals)
DRIFT: Final = web.AppKey("drift", Drift)
GATE: Final = web.AppKey("gate", Gate)
MODELS: Final = web.AppKey("models", Models)
MODEL_NEWS: Final = web.AppKey("model_news", NewsStore)
LIMITER: Final = web.AppKey("limiter", Limiter)
CALL_QUEUE: Final = web.AppKey("call_queue", CallQueue)
COOLDOWN_WAIT: Final = web.AppKey("cooldown_wait", CooldownWait)
#: What is shared with other processes, and their limits; None where the state is in files.
SHARING: Final[web.AppKey[Sharing | None]] = web.AppKey("sharing")
SHARED_LIMITS: Final[web.AppKey[SharedLimits | None]] = web.AppKey("shared_limits")
BUDGETS: Final = web.AppKey("budgets", Budgets)
SHARED_RESPONSES: Final[web.AppKey[SharedResponses | None]] = web.AppKey("shared_responses")
RELAY: Final = web.AppKey("relay", Relay)
TIMERS: Final = web.AppKey("timers", Timers)
DRAIN: Final = web.AppKey("drain", Drain)
JOINABLE: Final = web.AppKey("joinable", JoinableAnswers)
BODY_BUDGET: Final = web.AppKey("body_budget", ByteBudget)
HEAVY_WORK: Final = web.AppKey("heavy_work", HeavyWork)
CONNECTION_LIMITS: Final = web.AppKey("connection_limits", ConnectionLimits)
UPLOADS: Final = web.AppKey("uploads", Uploads)
FETCHER: Final = web.AppKey("fetcher", Fetcher)
STORED_RESPONSES: Final = web.AppKey("stored_responses", StoredResponses)
RANDOM: Final = web.AppKey("random", RandomBytes)

#: The API's calls, as (method, path below its prefix).
CALLS: Final[web.AppKey[list[tuple[str, str]]]] = web.AppKey("calls", list)

ROUTES: Final = web.AppKey("routes", dict[Handler, Route])

RECORD: Final = web.RequestKey("record", RequestRecord)
KEY: Final = web.RequestKey("key", ApiKey)
API: Final = web.RequestKey("api", Api)
