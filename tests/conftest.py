"""Fixtures for an arena and a bridge; how many examples Hypothesis tries; and whether a test may skip.

`make test` runs forty examples a property, `make test-slow` three thousand. With LMARENA_BRIDGE_NO_SKIP in the
environment, as in CI, a skip is a failure, since every program that a test needs must be installed there. Only data
outside the repository may be missing anywhere.
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

gc.disable()  # collecting the tests produces almost no garbage

#: A bridge and its arena have some ten thousand objects, most of which become garbage together, in cycles.
_COLLECT_AFTER = 10_000

#: aiohttp's caches of the handlers of every app, which keep each app and its whole bridge in memory.
_AIOHTTP_CACHES = [each for each in vars(web_app).values() if hasattr(each, "cache_clear")]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark every property test as slow if the slow profile is selected, before `-m slow` selects the tests."""
    if config.getoption("--hypothesis-profile") == "slow":
        for item in items:
            if is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exclude modules and tests from garbage collection: a full collection would take a second with them."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 3)
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Restore logging and clear caches after each test; for thousands of tests, a fixture would take seconds."""
    with restored_logging():
        try:
            return (yield)
        finally:
            for cache in _AIOHTTP_CACHES:
                cache.cache_clear()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips where none may, and make its captured output encodable for xdist."""
    report = _unskipped((yield))
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a test file that skips where none may."""
    return _unskipped((yield))


def _unskipped(report: Report) -> Report:
    may_skip = hasattr(report, "wasxfail") or SKIPPED_WITHOUT_SPECIFICATION in report.longreprtext
    if report.skipped and not may_skip and os.environ.get("LMARENA_BRIDGE_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"LMARENA_BRIDGE_NO_SKIP is set, yet: {report.longreprtext}"
    return report


@pytest.fixture(autouse=True, scope="session")
def no_power_failure() -> Iterator[None]:
    """Skip the wait for the disk in this process, since the power does not fail. Daemons as subprocesses do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _checked)
        yield


def _checked(descriptor: int) -> None:
    """Fail as fsync(2) does if the descriptor is not open."""
    os.fstat(descriptor)


@pytest.fixture(autouse=True, scope="session")
def compiled_templates() -> Iterator[None]:
    """Share the templates that the first bridge compiles with all bridges of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp_jinja2, "setup", partial(aiohttp_jinja2.setup, bytecode_cache=CompiledTemplates()))
        yield


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    """A simulated LMArena on a port of its own."""
    async with Arena() as arena:
        yield arena


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge with one account and one key, ready to be called."""
    async with running_bridge(arena, tmp_path / "state") as bridge:
        yield bridge


@pytest.fixture
async def tasks() -> AsyncIterator[TaskOwner]:
    """Runs a test's background tasks, and cancels those that still run at its end."""
    async with TaskOwner() as tasks:
        yield tasks


@pytest.fixture
def request_log(caplog: pytest.LogCaptureFixture) -> Iterator[RequestLog]:
    """Collects the log lines of the bridge's requests."""
    log = RequestLog()
    logger = logging.getLogger("bridge.requests")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(log)
        yield log
        logger.removeHandler(log)
