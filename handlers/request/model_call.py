"""A request that asks a model, with what all steps of its handling need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from aiohttp import web

from bridge.access.keys import ApiKey
from bridge.config.schema import Config
from handlers.request.appkeys import KEY, RECORD, SETTINGS
from handlers.request.joinable_answer import JoinableAnswer
from handlers.request.record import RequestRecord


@dataclass(slots=True, eq=False)
class ModelCall:
    """A request that asks a model. A reload of the configuration does not change its `config`."""

    request: web.Request
    app: web.Application
    key: ApiKey
    record: RequestRecord
    config: Config
    #: The answer that it has begun, if others may join it.
    joinable: JoinableAnswer | None = None

    @classmethod
    def of(cls, request: web.Request) -> Self:
        """The call of a request whose key has been checked."""
        app = request.app
        return cls(request, app, request[KEY], request[RECORD], app[SETTINGS].current())
