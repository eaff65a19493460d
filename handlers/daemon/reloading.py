"""The configuration in force: what was read, what lasts since the start, and what is switched for a while.

bridge.toml is read again at SIGHUP and by the dashboard. What cannot be used changes nothing.
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

#: The timeout of rereading bridge.toml, in seconds, and the number of concurrent attempts: a network file system may
#: hang.
_REREAD_SECONDS: Final = 30.0
_REREADS: Final = 4
_UNCHANGED: Final = "the configuration was not changed"
#: How long the log may be switched, in seconds.
SWITCH_SECONDS: Final = 15 * 60.0

_logger = logging.getLogger(__name__)


class RereadResult(NamedTuple):
    """One reading of the configuration again, at a unix time: what changed, or the problems why nothing did."""

    at: float
    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()


class LogSwitch(NamedTuple):
    """Another level of the log, and whether prompts are logged, until a unix time."""

    level: Level
    prompts: bool
    until: float

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Read what `_asdict` gave, as JSON. Raises ValueError for an unknown level."""
        return cls(LEVELS[LEVELS.index(value["level"])], bool(value["prompts"]), float(value["until"]))


class Reloading:
    """Keeps `settings` up to date.

    `apply` makes a new configuration take effect, `log_as` the section about the log; `reread` reads the sources again,
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
        #: What the daemon was started with, and what was read last.
        self.started = self.read = config
        #: When it was started, in seconds of the monotonic clock.
        self.began = time.monotonic()
        self.last: RereadResult | None = None
        self.switched: LogSwitch | None = None
        self._settings = settings
        self._apply = apply
        self._reread = reread
        self._log_as = log_as
        self._reading = Threads("configuration", _REREADS)
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()
        self._ends = 0.0  # when the switch does, by the monotonic clock

    @property
    def waiting(self) -> tuple[Change, ...]:
        """What has been read and needs a restart."""
        return tuple(change for change in changes(self.started, self.read) if change.needs_restart)

    async def read_again(self) -> RereadResult:
        """Read the sources again, and apply what they say now; what cannot be used is logged, and changes nothing."""
        async with self._one_at_a_time:
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
            except Exception:  # logged and shown; a failed reading must not end the task that reads
                problems = (Problem("", "", "a mistake in the bridge, which the log shows"),)
                _logger.exception(_UNCHANGED)
            self.last = RereadResult(time.time(), problems=problems)
            return self.last

    async def _reload(self) -> tuple[Change, ...]:
        """Apply the configuration as it is now. If this raises, it is unchanged."""
        async with asyncio.timeout(_REREAD_SECONDS):
            config = await self._reading.run(self._reread)
        before, in_force = self.read, self._settings.config
        self.read = config
        try:
            for change in self.waiting:
                _logger.warning("%s was changed: restart the daemon to apply it", change.name)
            self._apply(self._in_force())
            self._log_as(self._settings.config.log)
        except Exception:  # reraised after the old configuration is restored
            self.read, self._settings.config = before, in_force
            raise
        _logger.info("the configuration was reloaded")
        return changes(before, config)

    def switch_log(self, switch: LogSwitch | None) -> None:
        """Switch the log until a time, SWITCH_SECONDS from now at most; None ends that at once."""
        now = time.time()
        if switch is not None:
            switch = switch._replace(until=min(switch.until, now + SWITCH_SECONDS)) if switch.until > now else None
        if switch == self.switched:
            return
        seconds = 0.0 if switch is None else switch.until - now
        self.switched, self._ends = switch, time.monotonic() + seconds
        self._settings.config = self._in_force()
        self._log_as(self._settings.config.log)
        self._changed.set()
        if switch is None:
            _logger.warning("the log is as configured again")
        else:
            prompts = "with prompts and answers" if switch.prompts else "without prompts"
            _logger.warning("the log is switched for %.0f min: level %s, %s", seconds / 60, switch.level, prompts)

    async def keep(self) -> None:
        """End each switch of the log at its time, until cancelled."""
        while True:
            self._changed.clear()
            if self.switched is None:
                await self._changed.wait()
            elif not await set_within(self._changed, max(0.0, self._ends - time.monotonic())):
                self.switch_log(None)

    def _in_force(self) -> Config:
        """What was read, except for settings that apply at the start only, and for what is switched."""
        config = _with_start_settings(self.started, self.read)
        if self.switched is None:
            return config
        switched = replace(config.log, level=self.switched.level, debug=self.switched.prompts)
        by_hand = Origin(Source.DASHBOARD)
        return replace(config, log=switched, origins={**config.origins, "log.level": by_hand, "log.debug": by_hand})


RELOADING: Final = web.AppKey("reloading", Reloading)


def logging_as(*, worker: int | None) -> Callable[[LogSection], None]:
    """What configures a daemon's log, of a worker with this number."""
    return lambda section: log.configure(section.level, section.format, threaded=True, worker=worker)


def _with_start_settings(started: Config, config: Config) -> Config:
    """A configuration in which the settings that apply at the start only are those of the start."""
    kept: dict[str, Any] = {}
    origins = {name: origin for name, origin in config.origins.items() if not KEYS[name].needs_restart}
    for section, defaults in SECTIONS.items():
        names = [each.name for each in fields(defaults) if KEYS[f"{section}.{each.name}"].needs_restart]
        before = getattr(started, section)
        kept[section] = replace(getattr(config, section), **{name: getattr(before, name) for name in names})
    origins |= {name: origin for name, origin in started.origins.items() if KEYS[name].needs_restart}
    return replace(config, **kept, origins=origins)
