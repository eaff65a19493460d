"""The one place that wires the app: what it owns is made here in order, and closed in reverse."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial

from aiohttp import web

from bridge.config import Config
from bridge.health import Watch
from bridge.limits import Limiter
from bridge.models import Models
from bridge.relay import Relay
from bridge.state import State, kept_conversations, models_document
from bridge.stats_file import StatsFile
from bridge.store import StateFolder
from bridge.tasks import TaskOwner
from handlers.activity import Activity
from handlers.appkeys import (
    ACTIVITY,
    ALARMS,
    BODIES,
    CLIENT,
    DRAIN,
    ENDINGS,
    FETCHER,
    GATE,
    LIMITER,
    MODELS,
    RANDOM,
    RELAY,
    SETTINGS,
    STATE,
    STATS,
    TASKS,
    UPLOADS,
    Settings,
)
from handlers.budget import ByteBudget
from handlers.dashboard.guard import LOGINS
from handlers.dashboard.routes import add_dashboard
from handlers.drain import Drain
from handlers.endings import Endings
from handlers.fetching import FETCH_SECONDS
from handlers.health import health_of
from handlers.metrics import METRICS, Metrics
from handlers.middlewares import around, set_headers
from handlers.routes import add_routes
from handlers.site import client_settings, use_clearance
from upstream import client
from upstream.alarms import Alarms
from upstream.fetch import fetching
from upstream.gate import Gate
from upstream.ids import RandomBytes, Uuid7Source
from upstream.retry import Retries
from upstream.uploads import uploading

#: How often health is looked at for the log, in seconds.
HEALTH_SECONDS = 5.0


def build_app(config: Config, folder: StateFolder) -> web.Application:
    """Build the daemon's application over a prepared state folder."""
    app = web.Application(middlewares=[around])
    settings = app[SETTINGS] = Settings(config)
    app[STATE] = State(folder, time.time, on_password=lambda: app[LOGINS].end_all())
    app[STATS] = StatsFile(folder, time.time)
    app[GATE] = Gate(time.monotonic)
    app[LIMITER] = Limiter(time.monotonic)
    app[ALARMS] = Alarms()
    app[DRAIN] = Drain(app[ALARMS])
    app[BODIES] = ByteBudget()
    app[RANDOM] = RandomBytes()
    app.on_response_prepare.append(set_headers)
    add_routes(app)
    add_dashboard(app)

    async def state(app: web.Application) -> AsyncIterator[None]:
        await app[STATE].load()
        await app[STATS].load()
        app[ACTIVITY] = Activity(app[STATS].stats)
        app[ENDINGS] = Endings(app[ACTIVITY], app[LIMITER], settings.current)
        app[METRICS] = Metrics(app, app[STATS].stats)
        yield
        app[ENDINGS].settle()
        await app[STATS].flush()
        await app[STATE].flush()
        app[ALARMS].close()

    async def upstream(app: web.Application) -> AsyncIterator[None]:
        async with (
            kept_conversations(folder) as conversations,
            client.connect(client_settings(config, app[STATE].admin.clearance), app[ALARMS]) as arena,
            uploading(arena, clock=time.time, on_upload=app[STATS].stats.record_upload) as uploads,
            fetching(connect_timeout=FETCH_SECONDS) as fetcher,
        ):
            app[UPLOADS], app[FETCHER] = uploads, fetcher
            app[CLIENT] = arena
            app[MODELS] = Models(arena, app[STATE].pool, models_document(folder), settings.current, time.monotonic)
            await app[MODELS].load()
            app[RELAY] = Relay(
                arena,
                app[STATE].pool,
                app[MODELS],
                conversations,
                uploads,
                app[GATE],
                Retries(config.upstream.max_attempts),
                Uuid7Source(time.time, app[RANDOM]),
                settings.current,
                app[STATS].stats.record_attempt,
            )
            yield

    async def tasks(app: web.Application) -> AsyncIterator[None]:
        async with TaskOwner() as owner:
            app[TASKS] = owner
            owner.spawn(app[STATE].save(), name="save state")
            owner.spawn(app[STATE].watch(app[MODELS].wake), name="watch state")
            owner.spawn(app[STATS].keep(), name="save statistics")
            owner.spawn(app[MODELS].keep_fresh(), name="refresh models")
            owner.every(HEALTH_SECONDS, Watch(partial(health_of, app)), name="watch health")
            yield

    app.cleanup_ctx.extend((state, upstream, tasks))
    return app


def reload(app: web.Application, config: Config) -> None:
    """Take over a new configuration: running answers keep theirs, the next request has the new one.

    What the process was started with (address, TLS, state folder, size of the pool) stays as it was.
    """
    app[SETTINGS].config = config
    use_clearance(app)
    app[RELAY].retries.max_attempts = config.upstream.max_attempts
    app[MODELS].rehide()
    app[MODELS].wake()
