"""Restores the logging configuration: a level that a test leaves behind makes later tests capture every request."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Switches of the logging module that control which details it collects for each record.
_SWITCHES = ("logThreads", "logProcesses", "logMultiprocessing")


@contextmanager
def restored_logging() -> Iterator[None]:
    """Restore levels, handlers, switches and the hooks for warnings and unraisable exceptions."""
    root = logging.getLogger()
    handlers, levels, hook = root.handlers[:], _levels(), sys.unraisablehook
    switches = [getattr(logging, name) for name in _SWITCHES]
    try:
        yield
    finally:
        if root.handlers != handlers:
            for handler in {*root.handlers}.difference(handlers):
                handler.close()
            root.handlers[:] = handlers
        if (now := _levels()) != levels:
            for logger in {**now, **levels}:
                logger.setLevel(levels.get(logger, logging.NOTSET))
        sys.unraisablehook = hook
        for name, value in zip(_SWITCHES, switches, strict=True):
            setattr(logging, name, value)
        logging.captureWarnings(capture=False)


def _levels() -> dict[logging.Logger, int]:
    """The loggers with an explicit level, and that level."""
    root = logging.getLogger()
    loggers = (root, *root.manager.loggerDict.values())
    return {each: each.level for each in loggers if isinstance(each, logging.Logger) and each.level}
