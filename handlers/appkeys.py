"""What the app owns, under typed keys, and what is known of a request while it is answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from bridge.config import Config
from bridge.limits import Limiter
from bridge.models import Models
from bridge.relay import Relay
from bridge.state import State
from bridge.tasks import TaskOwner
from handlers.budget import ByteBudget
from handlers.drain import Drain
from upstream.client import ArenaClient
from upstream.errors import Reason
from upstream.fetch import Fetcher
from upstream.gate import Gate
from upstream.uploads import Uploads


@dataclass(slots=True)
class Settings:
    """The configuration as it is now; a reload replaces it, and holds from the next request on."""

    config: Config

    def current(self) -> Config:
        """What to read for a new request."""
        return self.config


@dataclass(slots=True)
class Facts:
    """What is known of one request, for its log line and its answer's headers. `ttft` is in seconds."""

    request_id: str
    key: str | None = None
    model: str | None = None
    reason: Reason = Reason.OK
    code: str | None = None
    ttft: float | None = None
    headers: dict[str, str] = field(default_factory=dict)


SETTINGS: Final = web.AppKey("settings", Settings)
STATE: Final = web.AppKey("state", State)
TASKS: Final = web.AppKey("tasks", TaskOwner)
CLIENT: Final = web.AppKey("client", ArenaClient)
GATE: Final = web.AppKey("gate", Gate)
MODELS: Final = web.AppKey("models", Models)
LIMITER: Final = web.AppKey("limiter", Limiter)
RELAY: Final = web.AppKey("relay", Relay)
DRAIN: Final = web.AppKey("drain", Drain)
BODIES: Final = web.AppKey("bodies", ByteBudget)
UPLOADS: Final = web.AppKey("uploads", Uploads)
FETCHER: Final = web.AppKey("fetcher", Fetcher)

FACTS: Final = web.RequestKey("facts", Facts)
