"""Runs daemons of several workers as separate processes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from process import DaemonProcess, Home

#: Serves as `python -m bridge` does, with as many workers as WORKERS says. They share the files of one state folder,
#: which is no way to serve, but shows how processes start and end.
_SERVE = """
import os
from dataclasses import replace
from bridge.config.file import ConfigSource

def with_workers(load):
    def loaded(self):
        config = load(self)
        return replace(config, server=replace(config.server, workers=int(os.environ["WORKERS"])))
    return loaded

ConfigSource.load, ConfigSource.reload = with_workers(ConfigSource.load), with_workers(ConfigSource.reload)
from handlers.commands.main import main
main()
"""
SERVE = (sys.executable, "-c", _SERVE)


@asynccontextmanager
async def serving(home: Home, workers: int = 2, **options: Any) -> AsyncIterator[DaemonProcess]:
    """A ready daemon of so many workers."""
    environ = {**options.pop("environ", {}), "WORKERS": str(workers)}
    async with home.serve(**{"program": SERVE, **options}, environ=environ) as daemon:
        yield daemon
