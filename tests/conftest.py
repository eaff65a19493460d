"""Fixtures for an arena and a bridge; how many examples Hypothesis tries; and whether a test may skip.

`make test` runs forty examples a property, `make test-slow` three thousand. With LMARENA_BRIDGE_NO_SKIP in the
environment, as in CI, a skip is a failure: there every program that a test needs is expected. Only data that is no part
of the repository may be missing everywhere.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiohttp_jinja2
import pytest
from aiohttp import web_app
from hypothesis import is_hypothesis_test, settings
from openresponses import SKIPPED_WITHOUT_SPECIFICATION
from request_log import RequestLog
from restored_logging import restored_logging
from running import RunningBridge, running_bridge
from templates import CompiledTemplates

from bridge.tasks import TaskOwner
from upstream.arena import Arena

settings.register_profile("default", max_examples=40, deadline=None, derandomize=False, print_blob=True)
settings.register_profile("slow", settings.get_profile("default"), max_examples=3_000)
settings.load_profile("default")

gc.disable()  # while tests are collected, next to nothing becomes garbage

#: A bridge with its arena is some ten thousand objects, most of which end together, in cycles.
_COLLECT_AFTER = 10_000

#: What aiohttp remembers of the handlers of every app, and so each app, with all that belongs to its bridge.
_AIOHTTP_CACHES = [each for each in vars(web_app).values() if hasattr(each, "cache_clear")]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Count every property among the slow tests when the slow profile is asked for, before `-m slow` chooses."""
    if config.getoption("--hypothesis-profile") == "slow":
        for item in items:
            if is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave modules and tests out of all garbage collections: a full one would take a second with them."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 3)
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Let no test change how later ones log, or stay in memory: a fixture for each of thousands would take seconds."""
    with restored_logging():
        try:
            return (yield)
        finally:
            for cache in _AIOHTTP_CACHES:
                cache.cache_clear()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test skip where none may; let what it has logged pass from xdist's worker to the one who prints it."""
    report = _unskipped((yield))
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let no file of tests skip where none may."""
    return _unskipped((yield))


def _unskipped(report: Report) -> Report:
    may_skip = hasattr(report, "wasxfail") or SKIPPED_WITHOUT_SPECIFICATION in report.longreprtext
    if report.skipped and not may_skip and os.environ.get("LMARENA_BRIDGE_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"LMARENA_BRIDGE_NO_SKIP is set, yet: {report.longreprtext}"
    return report


@pytest.fixture(autouse=True, scope="session")
def no_power_failure() -> Iterator[None]:
    """Let no file wait for the disk in this process: nothing cuts the power. Daemons of their own do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _checked)
        yield


def _checked(descriptor: int) -> None:
    """Refuse what fsync(2) refuses: a descriptor that is not open."""
    os.fstat(descriptor)


@pytest.fixture(autouse=True, scope="session")
def compiled_templates() -> Iterator[None]:
    """Let each bridge of this process use the templates that the first one has compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp_jinja2, "setup", partial(aiohttp_jinja2.setup, bytecode_cache=CompiledTemplates()))
        yield


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    """LMArena, played on a port of its own."""
    async with Arena() as arena:
        yield arena


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge with one account and one key, ready to be called."""
    async with running_bridge(arena, tmp_path / "state") as bridge:
        yield bridge


@pytest.fixture
async def tasks() -> AsyncIterator[TaskOwner]:
    """Runs a test's background tasks, and cancels at its end those that still run."""
    async with TaskOwner() as tasks:
        yield tasks


@pytest.fixture
def request_log(caplog: pytest.LogCaptureFixture) -> Iterator[RequestLog]:
    """The log lines of the bridge's requests, as they come."""
    log = RequestLog()
    logger = logging.getLogger("bridge.requests")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(log)
        yield log
        logger.removeHandler(log)
