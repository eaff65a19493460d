"""The configuration in force: what was read last, except for settings that need a restart and switches of the log.

bridge.toml is read again at SIGHUP and by the dashboard. A configuration that cannot be used changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple, Self

from aiohttp import web

from bridge import log
from bridge.config.origins import Origin, Source
from bridge.config.problems import ConfigError, Problem
from bridge.config.schema import KEYS, LEVELS, SECTIONS, Config, Level, LogSection
from bridge.config.shown import Change, changes
from bridge.tasks import set_within
from handlers.request.appkeys import Settings
from upstream.loop.threads import Threads

#: The timeout of rereading bridge.toml, in seconds, and how many readings may run at once: a network file system may
#: hang.
_REREAD_SECONDS: Final = 30.0
_REREADS: Final = 4
_UNCHANGED: Final = "the configuration was not changed"
#: How long the log may be switched, in seconds.
SWITCH_SECONDS: Final = 15 * 60.0

_logger = logging.getLogger(__name__)


class RereadResult(NamedTuple):
    """The result of rereading the configuration, at a unix time: what changed, or the problems why nothing did."""

    at: float
    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()


class LogSwitch(NamedTuple):
    """Another level for the log, and whether prompts are logged, until a unix time."""

    level: Level
    prompts: bool
    until: float

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `_asdict`, from JSON. Raises ValueError for an unknown level."""
        return cls(LEVELS[LEVELS.index(value["level"])], bool(value["prompts"]), float(value["until"]))


class Reloading:
    """Keeps `settings` up to date.

    `apply` puts a new configuration into effect, `log_as` its section about the log. `reread` reads the sources again,
    blocks, and may raise ConfigError.
    """

    def __init__(
        self,
        config: Config,
        settings: Settings,
        apply: Callable[[Config], None],
        reread: Callable[[], Config],
        log_as: Callable[[LogSection], None],
    ) -> None:
        #: The configuration at the start, and the one that was read last.
        self.started = self.read = config
        #: When the daemon was started, in seconds of the monotonic clock.
        self.began = time.monotonic()
        self.last: RereadResult | None = None
        self.switched: LogSwitch | None = None
        self._settings = settings
        self._apply = apply
        self._reread = reread
        self._log_as = log_as
        self._reading = Threads("configuration", _REREADS)
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._switch_ends = 0.0  # on the monotonic clock

    @property
    def needing_restart(self) -> tuple[Change, ...]:
        """The changes that have been read and need a restart."""
        return tuple(change for change in changes(self.started, self.read) if change.needs_restart)

    async def read_again(self) -> RereadResult:
        """Read and apply the sources again. A configuration that cannot be used is logged, and changes nothing."""
        async with self._lock:
            problems: tuple[Problem, ...]
            try:
                self.last = RereadResult(time.time(), await self._reload())
                return self.last
            except ConfigError as error:
                problems = error.problems
                _logger.error("%s: %s", _UNCHANGED, "; ".join(map(str, problems)))
            except TimeoutError:
                problems = (Problem("", "", f"it could not be read within {_REREAD_SECONDS:g} s"),)
                _logger.error("%s: %s", _UNCHANGED, problems[0])
            except Exception:  # logged and shown: the task that reloads must not end
                problems = (Problem("", "", "an internal error; the log has the details"),)
                _logger.exception(_UNCHANGED)
            self.last = RereadResult(time.time(), problems=problems)
            return self.last

    async def _reload(self) -> tuple[Change, ...]:
        """Read and apply the configuration. If this raises, the one in force is unchanged."""
        async with asyncio.timeout(_REREAD_SECONDS):
            config = await self._reading.run(self._reread)
        before, in_force = self.read, self._settings.config
        self.read = config
        try:
            for change in self.needing_restart:
                _logger.warning("%s was changed: restart the daemon to apply it", change.name)
            self._apply(self._in_force())
            self._log_as(self._settings.config.log)
        except Exception:  # reraised after the old configuration is restored
            self.read, self._settings.config = before, in_force
            raise
        _logger.info("the configuration was reloaded")
        return changes(before, config)

    def switch_log(self, switch: LogSwitch | None) -> None:
        """Switch the log until the switch's time, for SWITCH_SECONDS at most; None ends a switch at once."""
        now = time.time()
        if switch is not None:
            switch = switch._replace(until=min(switch.until, now + SWITCH_SECONDS)) if switch.until > now else None
        if switch == self.switched:
            return
        seconds = 0.0 if switch is None else switch.until - now
        self.switched, self._switch_ends = switch, time.monotonic() + seconds
        self._settings.config = self._in_force()
        self._log_as(self._settings.config.log)
        self._changed.set()
        if switch is None:
            _logger.warning("the log is as configured again")
        else:
            prompts = "with prompts and answers" if switch.prompts else "without prompts"
            _logger.warning("the log is switched for %.0f min: level %s, %s", seconds / 60, switch.level, prompts)

    async def end_switches(self) -> None:
        """End each switch of the log at its time, until cancelled."""
        while True:
            self._changed.clear()
            if self.switched is None:
                await self._changed.wait()
            elif not await set_within(self._changed, max(0.0, self._switch_ends - time.monotonic())):
                self.switch_log(None)

    def _in_force(self) -> Config:
        """What was read, except for settings that apply at the start only, and with the log as it is switched."""
        config = _with_start_settings(self.started, self.read)
        if self.switched is None:
            return config
        switched = replace(config.log, level=self.switched.level, debug=self.switched.prompts)
        origins = dict.fromkeys(("log.level", "log.debug"), Origin(Source.DASHBOARD))
        return replace(config, log=switched, origins={**config.origins, **origins})


RELOADING: Final = web.AppKey("reloading", Reloading)


def logging_as(*, worker: int | None) -> Callable[[LogSection], None]:
    """A function that configures the daemon's log; `worker` is the worker's number, None without workers."""
    return lambda section: log.configure(section.level, section.format, threaded=True, worker=worker)


def _with_start_settings(started: Config, config: Config) -> Config:
    """`config`, but with the settings of `started` that apply at the start only."""
    kept: dict[str, Any] = {}
    origins = {name: origin for name, origin in config.origins.items() if not KEYS[name].needs_restart}
    for section, defaults in SECTIONS.items():
        names = [each.name for each in fields(defaults) if KEYS[f"{section}.{each.name}"].needs_restart]
        before = getattr(started, section)
        kept[section] = replace(getattr(config, section), **{name: getattr(before, name) for name in names})
    origins |= {name: origin for name, origin in started.origins.items() if KEYS[name].needs_restart}
    return replace(config, **kept, origins=origins)
