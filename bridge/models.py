"""The catalog of models: read at the start and every `refresh_minutes`, and searched for each request."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final

from bridge.access.keys import ApiKey
from bridge.config.schema import Config
from bridge.errors import (
    model_not_allowed,
    model_not_found,
    model_refused,
    model_stale,
    model_withheld,
    models_unavailable,
)
from bridge.model_sources import read_list
from bridge.state.formats import StoredDocument
from bridge.state.saving import Saver
from bridge.tasks import set_within
from upstream.client import ArenaClient
from upstream.protocol.catalog import MAX_REQUESTED_CHARS, Catalog, names_of
from upstream.protocol.errors import TimedOut, UpstreamError
from upstream.protocol.models import Model, ModelList

#: How soon the first failed reading is retried, in seconds; the time doubles, up to `refresh_minutes`.
FIRST_REPEAT_SECONDS: Final = 5.0
#: The timeout of reading each of the two lists, as a share of the time that a request waits for both.
SHARE_OF_WAIT: Final = 0.5
#: An unknown name causes another reading at most this often, in seconds.
UNKNOWN_NAME_SECONDS: Final = 60.0
#: If there are more unreadable entries than this for each model, the log warns: the site may have changed.
UNREADABLE_SHARE: Final = 0.1

#: The maximum length of a name such as `a+b`, which lists up to four models.
MAX_COMPARED_CHARS: Final = 4 * MAX_REQUESTED_CHARS
#: The order of the list of models.
_MODALITIES: Final = ("chat", "search", "image")

_logger = logging.getLogger(__name__)


class Models:
    """The catalog in memory, and its periodic refresh. `clock` is monotonic, in seconds.

    `on_change` is called with the old and the new list when a reading has changed it, but not for the first reading.
    """

    def __init__(
        self,
        client: ArenaClient,
        document: StoredDocument[tuple[Model, ...]],
        config: Callable[[], Config],
        clock: Callable[[], float],
        on_change: Callable[[Sequence[Model], Sequence[Model]], None] = lambda _before, _now: None,
    ) -> None:
        self._client = client
        self._document = document
        self._config = config
        self._clock = clock
        self._on_change = on_change
        self._read_at: float | None = None
        self._wake = asyncio.Event()
        self._read = asyncio.Condition()
        self._unknown_asked_at = -UNKNOWN_NAME_SECONDS
        self._skipped = 0
        self._is_reading = False
        self._saver = Saver("models are", self._write)
        self.catalog: Catalog | None = None
        #: Why the last reading failed; None if it succeeded.
        self.failure: UpstreamError | None = None
        self._due: float | None = None  # when the list is read next; None while it is being read

    @property
    def next_reading(self) -> float | None:
        """The seconds until the list is read again; None while it is being read."""
        return None if self._due is None or self._is_reading else max(0.0, self._due - self._clock())

    async def load(self) -> None:
        """Load the models that the last run saved, so that the daemon is ready without the site."""
        models = await self._document.load()
        if models:
            self._set_catalog(models)

    async def keep_fresh(self) -> None:
        """Read the list periodically, until cancelled."""
        repeat = FIRST_REPEAT_SECONDS
        while True:
            self._wake.clear()
            every = self._config().models.refresh_minutes * 60.0
            await self.refresh()
            if self.failure is None:
                wait, repeat = every, FIRST_REPEAT_SECONDS
            else:
                wait, repeat = min(repeat, every), min(repeat * 2, every)
            self._due = self._clock() + wait
            await set_within(self._wake, wait)

    def wake(self) -> None:
        """Have the list read now, for example because the configuration has changed."""
        self._wake.set()

    async def read_now(self) -> bool:
        """Have the list read now, and wait for that, at most `connect_timeout`; return whether that was enough."""
        self.wake()
        return await self._next_reading()

    @property
    def age(self) -> float | None:
        """The seconds since the list was read; None if this run has not read it yet."""
        return None if self._read_at is None else self._clock() - self._read_at

    async def refresh(self) -> None:
        """Read the list once, without a login, and record the outcome."""
        failure: UpstreamError | None = None
        found: ModelList | None = None
        self._is_reading = True
        try:
            timeout = self._config().upstream.connect_timeout * SHARE_OF_WAIT
            found = await read_list(self._client, timeout=timeout)
        except UpstreamError as error:
            failure = error.with_traceback(None)  # breaks a reference cycle: the traceback refers to this frame
        finally:
            self._is_reading = False
        async with self._read:
            self.failure = failure
            if found is not None:
                self._read_at = self._clock()
                await self._use(found)
            else:
                _logger.warning("the list of models cannot be read: %s", failure)
            self._read.notify_all()

    async def _use(self, found: ModelList) -> None:
        models, skipped = found
        changed = self.catalog is None or models != self.catalog.models
        if changed or skipped != self._skipped:
            level = logging.WARNING if skipped > UNREADABLE_SHARE * len(models) else logging.INFO
            unreadable = f" ({skipped} further entries of the site's lists cannot be read)" if skipped else ""
            _logger.log(level, "%d models%s", len(models), unreadable)
        self._skipped = skipped
        if changed:
            if self.catalog is not None:
                self._on_change(self.catalog.models, models)
            self._set_catalog(models)
            self._saver.mark_changed()
            await self._saver.flush()

    async def _write(self) -> None:
        if self.catalog is not None:
            await self._document.save(self.catalog.models)

    async def save(self) -> None:
        """Retry saving the list after failures, until cancelled."""
        await self._saver.keep()

    def _set_catalog(self, models: tuple[Model, ...]) -> None:
        config = self._config().models
        self.catalog = Catalog(models, hide=config.hide, aliases=config.aliases)

    def apply_config(self) -> None:
        """Apply a changed `models.hide` and `models.aliases`."""
        if self.catalog is not None:
            self._set_catalog(self.catalog.models)

    async def available(self) -> Catalog:
        """Return the catalog, if need be after the first reading. Raises ApiError (503) if there is none in time."""
        if self.catalog is None and self.failure is None:
            await self._next_reading()
        if self.catalog is None:
            failure = self.failure or UpstreamError("it has not answered yet.")
            raise models_unavailable(failure.reason, failure.message)
        return self.catalog

    async def targets(self, name: str) -> Sequence[str]:
        """The models that an alias stands for, in the order in which they are tried; empty if the name is no alias."""
        return (await self.available()).targets(name)

    async def compared(self, name: str) -> Sequence[str]:
        """The models that a name such as `a+b` lists, each to be asked the same; empty if it lists none.

        A name that is a model's or an alias's own lists none, nor does one with an unknown part, or a very long one.
        Raises ApiError (503) without a catalog.
        """
        if len(name) > MAX_COMPARED_CHARS:
            return ()
        catalog = await self.available()
        if catalog.find_own(name) is not None or name in dict(catalog.exact_aliases()):
            return ()
        parts = [part.strip() for part in name.split("+")]
        return parts if len(parts) > 1 and all(map(catalog.find, parts)) else ()

    async def resolve(self, name: str, key: ApiKey, *, aliases: bool = True) -> Model:
        """Find the model that a request names. If `aliases` is false, only models' own names count.

        Raises ApiError: 404, 403, or 503 without a catalog.
        """
        catalog = await self.available()
        model = _find(catalog, name, aliases)
        if (
            model is None
            and catalog.withheld(name) is None
            and self._clock() - self._unknown_asked_at >= UNKNOWN_NAME_SECONDS
        ):
            self._unknown_asked_at = self._clock()
            await self.read_now()
            catalog = await self.available()
            model = _find(catalog, name, aliases)
        if model is None:
            if catalog.withheld(name) is not None:
                raise model_withheld(name)
            raise model_not_found(name, catalog.close_names(name, [shown for shown, _ in self.visible(catalog, key)]))
        if not self.may_use(model, key):
            raise model_not_allowed(name)
        return model

    async def resolve_again(self, name: str, stale: Model, key: ApiKey, *, aliases: bool = True) -> Model:
        """Find a request's model again, after the site has refused its id.

        Concurrent calls share one reading of the list. Raises ApiError: 404 if a fresh list has no other model of that
        name, 503 if the list cannot be read.
        """
        if self._is_reading and self._is_current(name, stale, aliases):  # it may have begun before the refusal
            await self._next_reading()
        if self._is_current(name, stale, aliases):
            failure = self.failure if await self.read_now() else TimedOut("it has not answered yet.")
            if failure is not None and self._is_current(name, stale, aliases):
                raise model_stale(name, failure.reason, failure.message)
        self._unknown_asked_at = self._clock()  # if the name is gone, `resolve` need not read the list again
        if self._is_current(name, stale, aliases):
            raise model_refused(name)
        return await self.resolve(name, key, aliases=aliases)

    def _is_current(self, name: str, model: Model, aliases: bool) -> bool:
        """Whether the name still stands for a model with the same id and modality."""
        found = None if self.catalog is None else _find(self.catalog, name, aliases)
        return found is not None and (found.id, found.modality) == (model.id, model.modality)

    def may_use(self, model: Model, key: ApiKey) -> bool:
        """Whether a key may use a model. Stealth models require both the key's right and `models.stealth`."""
        if model.stealth and not (key.stealth and self._config().models.stealth):
            return False
        return not key.models or key.allows(names_of(model))

    def visible(self, catalog: Catalog, key: ApiKey) -> list[tuple[str, Model]]:
        """The models that a key may use, with the names to list: by modality, the best ranked first.

        Aliases without wildcards are listed too, each with its model.
        """
        named = {**dict(catalog), **dict(catalog.exact_aliases())}
        return sorted(
            ((name, model) for name, model in named.items() if self.may_use(model, key)),
            key=lambda listed: _sort_key(listed[1]),
        )

    async def _next_reading(self) -> bool:
        """Wait for the end of the next reading, at most `connect_timeout`; return whether there was one."""
        try:
            async with asyncio.timeout(self._config().upstream.connect_timeout), self._read:
                return await self._read.wait()
        except TimeoutError:
            return False


def _find(catalog: Catalog, name: str, aliases: bool) -> Model | None:
    return catalog.find(name) if aliases else catalog.find_own(name)


def _sort_key(model: Model) -> tuple[int, float]:
    """The sort key of a model in the list; video models, which the bridge cannot use, come last."""
    rank = dict(model.rank_by_modality).get(model.modality, model.rank)
    return len(_MODALITIES) if model.video else _MODALITIES.index(model.modality), rank or math.inf
