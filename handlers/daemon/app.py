"""The composition root: makes all objects that the app owns, in order, and closes them in reverse order."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from functools import partial

from aiohttp import web

from bridge.access.limits import Limiter
from bridge.access.logins import SetupCode
from bridge.access.waiting import CallQueue
from bridge.accounts.follow_ups import FollowUps
from bridge.accounts.renewals import renewing
from bridge.accounts.rotations import Rotations
from bridge.activity.files import Retention
from bridge.activity.store import ActivityStore
from bridge.answering.attempts import Attempts
from bridge.answering.conversations import Conversations
from bridge.answering.relay import Relay
from bridge.config.schema import Config, LogSection
from bridge.dialects.responses.stored import StoredResponses
from bridge.health import TroubleLog
from bridge.models import Models
from bridge.recording import drift as recorded_drift
from bridge.recording.folder import RecordingFiles
from bridge.recording.recorder import Recorder
from bridge.state.budgets import kept_budgets
from bridge.state.conversations import kept_conversations
from bridge.state.documents import StateFolder
from bridge.state.formats import DocumentSource
from bridge.state.model_news import kept_news
from bridge.state.modes import kept_modes
from bridge.state.responses import kept_responses
from bridge.state.state import MODELS as MODEL_LIST
from bridge.state.state import State
from bridge.statistics.file import StatsFile
from bridge.tasks import TaskOwner
from handlers.api.fetching import FETCH_SECONDS
from handlers.api.routes import add_routes
from handlers.daemon.connection_limits import UNAUTHENTICATED_CONNECTIONS, ConnectionLimits
from handlers.daemon.reloading import RELOADING, Reloading
from handlers.daemon.sharing import sharing_of
from handlers.dashboard.guard import LOGINS
from handlers.dashboard.login import SETUP
from handlers.dashboard.routes import add_dashboard
from handlers.monitoring.health import health_of
from handlers.monitoring.metrics import METRICS, Metrics
from handlers.request.activity import Activity, entry_of
from handlers.request.appkeys import (
    ACTIVITY,
    ACTIVITY_STORE,
    BODY_BUDGET,
    BUDGETS,
    CALL_QUEUE,
    CLIENT,
    CONNECTION_LIMITS,
    COOLDOWN_WAIT,
    DRAIN,
    DRIFT,
    FETCHER,
    GATE,
    HEAVY_WORK,
    JOINABLE,
    LIMITER,
    MODEL_NEWS,
    MODELS,
    RANDOM,
    RELAY,
    RENEWALS,
    REQUEST_LOG,
    SETTINGS,
    SHARED_LIMITS,
    SHARED_RESPONSES,
    SHARING,
    STATE,
    STATS,
    STORED_RESPONSES,
    TASKS,
    TIMERS,
    UPLOADS,
    Settings,
)
from handlers.request.budget import ByteBudget
from handlers.request.clearance import client_settings, use_clearance
from handlers.request.cooldown_wait import CooldownWait
from handlers.request.drain import Drain
from handlers.request.heavy import HeavyWork
from handlers.request.joinable import JoinableAnswers
from handlers.request.middlewares import handle_request, set_headers
from handlers.request.recording import RECORDER
from handlers.request.request_log import RequestLog
from upstream import client
from upstream.fetch import open_fetcher
from upstream.gate import Gate
from upstream.http.exchange_types import Response
from upstream.loop.timers import Timers
from upstream.protocol.drift import Drift
from upstream.protocol.ids import Uuid7Source
from upstream.random_bytes import RandomBytes
from upstream.retry import Retries
from upstream.uploads import open_uploads

_logger = logging.getLogger(__name__)

#: How often health is examined for the log, in seconds.
HEALTH_SECONDS = 5.0
#: How often requests that wait for calls of other processes to end try again, in seconds; also when one ends here.
QUEUE_SECONDS = 0.5


def build_app(
    config: Config,
    folder: StateFolder,
    reread: Callable[[], Config] | None = None,
    log_as: Callable[[LogSection], None] = lambda _: None,
) -> web.Application:
    """Build the daemon's application over a prepared state folder.

    `reread` reads the configuration again (see `ConfigSource.reload`); `log_as` configures the process's log.
    """
    app = web.Application(middlewares=[handle_request])
    settings = app[SETTINGS] = Settings(config)
    app[RELOADING] = Reloading(config, settings, partial(reload, app), reread or (lambda: config), log_as)
    sharing = app[SHARING] = sharing_of(config, folder)
    source: DocumentSource = folder if sharing is None else sharing.documents
    app[STATE] = State(
        source,
        time.time,
        on_password=lambda: app[LOGINS].end_all(),
        monotonic=time.monotonic,
        unsaved_cookies=None if sharing is None else sharing.waiting_cookies,
        shared=sharing is not None,
    )
    app[STATS] = StatsFile(folder, time.time) if sharing is None else sharing.stats
    app[ACTIVITY_STORE] = ActivityStore(folder, time.time, lambda: _retention(settings.config), entry_of)
    app[RECORDER] = Recorder(RecordingFiles(folder), lambda: settings.config.recording.keep_mb * 1024 * 1024)
    app[GATE] = Gate(time.monotonic)
    if sharing is not None:
        sharing.gate(app[GATE])
    app[DRIFT] = Drift(
        _warn_of_unknown, lambda kinds, lines: app[RECORDER].keep_drift(recorded_drift.of_lines(kinds, lines))
    )
    app[LIMITER] = Limiter(time.monotonic)
    app[SHARED_LIMITS] = None if sharing is None else sharing.limits(app[LIMITER])
    app[CALL_QUEUE] = CallQueue(app[LIMITER], time.monotonic, shared=sharing is not None)
    app[TIMERS] = Timers()
    app[DRAIN] = Drain(app[TIMERS])
    app[COOLDOWN_WAIT] = CooldownWait(app[TIMERS], app[DRAIN], app[STATE].pool)
    app[JOINABLE] = JoinableAnswers(app[TIMERS], time.monotonic)
    app[DRAIN].on_begin.add(app[JOINABLE].close)
    app[BODY_BUDGET] = ByteBudget()
    app[HEAVY_WORK] = HeavyWork()
    app[CONNECTION_LIMITS] = ConnectionLimits(2 * config.limits.callers + UNAUTHENTICATED_CONNECTIONS, time.monotonic)
    app[RANDOM] = RandomBytes()
    app[STORED_RESPONSES] = StoredResponses()
    app[SHARED_RESPONSES] = None if sharing is None else sharing.responses(app[STORED_RESPONSES])
    app.on_response_prepare.append(set_headers)
    add_routes(app)
    add_dashboard(app, folder)
    app.cleanup_ctx.extend((_sharing_state, _loaded_state, partial(_relay_upstream, folder, source), _background_tasks))
    return app


async def _sharing_state(app: web.Application) -> AsyncIterator[None]:
    """Connect to the processes with which this one shares its state, if there are any."""
    sharing = app[SHARING]
    async with nullcontext() if sharing is None else sharing.running(app[STATE]):
        yield


async def _loaded_state(app: web.Application) -> AsyncIterator[None]:
    """Load what is kept on disk or in Redis, and save it at the end."""
    await app[STATE].load()
    if (sharing := app[SHARING]) is not None and app[STATE].admin.password_hash is None:
        app[SETUP] = SetupCode(await sharing.setup_code(app[SETUP].code))
    await app[STATS].load()
    app[ACTIVITY] = Activity(app[STATS].stats, app[ACTIVITY_STORE].add)
    app[REQUEST_LOG] = RequestLog(app[ACTIVITY], app[SETTINGS].current)
    app[METRICS] = Metrics(app, app[STATS].stats)
    yield
    await app[ACTIVITY_STORE].finish()
    await app[STATS].finish()
    await app[STATE].finish()
    app[TIMERS].close()
    app[HEAVY_WORK].close()


async def _relay_upstream(folder: StateFolder, source: DocumentSource, app: web.Application) -> AsyncIterator[None]:
    """Own the connections to the site, and all that is needed to answer a chat with them."""
    settings, sharing, pool = app[SETTINGS], app[SHARING], app[STATE].pool
    config = settings.config
    async with (
        kept_conversations(folder) if sharing is None else nullcontext(Conversations()) as conversations,
        kept_responses(folder, app[STORED_RESPONSES]) if sharing is None else nullcontext(),
        kept_budgets(source, time.time, shared=sharing is not None) as app[BUDGETS],
        kept_modes(source, lambda user_id: pool.get(user_id) is not None) as modes,
        kept_news(source, time.time) as app[MODEL_NEWS],
        client.connect(client_settings(config, app[STATE].admin.clearance), app[TIMERS]) as arena,
        renewing(
            arena, pool, settings.current, app[STATE].flush, None if sharing is None else sharing.turns(app[STATE])
        ) as renewals,
        open_uploads(
            arena,
            clock=arena.clock,
            monotonic=time.monotonic,
            on_upload=app[STATS].stats.record_upload,
            known=None if sharing is None else sharing.uploads,
        ) as uploads,
        open_fetcher(connect_timeout=FETCH_SECONDS, proxies=arena.settings.proxies) as fetcher,
    ):
        app[UPLOADS], app[FETCHER] = uploads, fetcher
        app[CLIENT], app[RENEWALS] = arena, renewals
        arena.on_unknown_answer = partial(_record_unknown_answer, app[RECORDER])
        app[MODELS] = Models(arena, source.open(MODEL_LIST), settings.current, time.monotonic, app[MODEL_NEWS].record)
        await app[MODELS].load()
        follow_ups = FollowUps(time.monotonic)
        attempts = Attempts(
            arena,
            pool,
            renewals,
            uploads,
            modes,
            follow_ups,
            Rotations(time.monotonic),
            Uuid7Source(arena.clock, app[RANDOM]),
            settings.current,
            app[DRIFT],
            app[STATS].stats.record_attempt,
        )
        app[RELAY] = Relay(
            attempts,
            pool,
            app[MODELS],
            conversations,
            follow_ups,
            app[GATE],
            Retries(config.upstream.max_attempts),
            app[DRIFT],
            settings.current,
            None if sharing is None else sharing.conversations,
            app[STATE].flush,
        )
        yield


async def _background_tasks(app: web.Application) -> AsyncIterator[None]:
    """Run the daemon's own tasks."""
    async with TaskOwner() as owner:
        app[TASKS] = owner
        owner.spawn(app[STATE].save(), name="save state")
        if app[SHARING] is not None and app[SETTINGS].config.limits.queue_seconds:
            owner.every(QUEUE_SECONDS, partial(_unblock, app[CALL_QUEUE]), name="unblock waiting calls")
        owner.spawn(app[STATE].watch(app[RENEWALS].wake, partial(_use_clearance, app)), name="watch state")
        owner.spawn(app[STATS].keep(), name="save statistics")
        owner.spawn(app[ACTIVITY_STORE].keep(), name="keep ended requests")
        owner.spawn(app[RECORDER].watch(), name="watch for recordings")
        owner.spawn(app[RELOADING].end_switches(), name="end switches of the log")
        owner.spawn(app[MODELS].keep_fresh(), name="refresh models")
        owner.spawn(app[MODELS].save(), name="save models")
        owner.spawn(app[RENEWALS].keep(), name="renew accounts")
        owner.every(HEALTH_SECONDS, TroubleLog(partial(health_of, app)), name="watch health")
        yield
        await app[JOINABLE].aclose()


def reload(app: web.Application, config: Config) -> None:
    """Apply a new configuration from the next request on; running answers keep the old one.

    Settings that apply at start only (address, TLS, state folder, size of the connection pool) do not change.
    """
    app[SETTINGS].config = config
    use_clearance(app)
    app[RELAY].retries.max_attempts = config.upstream.max_attempts
    app[MODELS].apply_config()
    app[MODELS].wake()
    app[RENEWALS].wake()


async def _unblock(queue: CallQueue) -> None:
    """Let waiting calls ask the other processes for slots again."""
    queue.unblock()


def _use_clearance(app: web.Application) -> None:
    """Use a clearance that a command has stored; the site may now let the bridge read its list of models."""
    use_clearance(app)
    app[MODELS].wake()


def _record_unknown_answer(recorder: Recorder, method: str, path: str, response: Response, body: bytes) -> None:
    """Keep a recording of an answer that shows that the site has changed."""
    headers = tuple(response.headers.items())
    recorder.keep_drift(recorded_drift.of_answer(method, path, response.status, headers, body))


def _retention(config: Config) -> Retention:
    """How long, and how many bytes of, ended requests are kept."""
    return Retention(config.log.keep_days, config.log.keep_mb * 1024 * 1024)


def _warn_of_unknown(kind: str) -> None:
    """Log a kind of unknown content, when it is first seen: the site may have changed."""
    _logger.warning("LMArena sent something that this version does not know; it is skipped: %s", kind)
