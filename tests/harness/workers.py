"""Runs daemons with several workers as separate processes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from process import DaemonProcess, Home

#: Serves like `python -m bridge`, with WORKERS workers and their state in the Redis at REDIS_URL. Without REDIS_URL
#: they share the files of one state folder, which is not a supported setup, but suffices to test how processes start.
_SERVE = """
import os
from dataclasses import replace
from bridge.config.file import ConfigSource
from bridge.config.values import Secret

def with_workers(load):
    def loaded(self):
        config = load(self)
        server = replace(config.server, workers=int(os.environ["WORKERS"]))
        redis = replace(config.redis, url=Secret(os.environ.get("REDIS_URL", "")))
        return replace(config, server=server, redis=redis)
    return loaded

ConfigSource.load, ConfigSource.reload = with_workers(ConfigSource.load), with_workers(ConfigSource.reload)
from handlers.commands.main import main
main()
"""
SERVE = (sys.executable, "-c", _SERVE)


@asynccontextmanager
async def serving(home: Home, workers: int = 2, **options: Any) -> AsyncIterator[DaemonProcess]:
    """Run a daemon with this many workers; yield it when it is ready."""
    environ = {**options.pop("environ", {}), "WORKERS": str(workers)}
    async with home.serve(**{"program": SERVE, **options}, environ=environ) as daemon:
        yield daemon
