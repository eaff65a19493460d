"""Kills and freezes Redis and four worker processes at random: no evaluation gets a turn that does not fit its history.

The arena checks the turns. No request fails because of Redis alone or of a frozen process, and a killed process fails
only the requests that it was serving; no refresh token is used twice, and afterwards everything works as before.

CHAOS_SECONDS=600 runs it for ten minutes, CHAOS_SEED=… repeats the same random choices, and --log-cli-level=INFO
logs the injected faults.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from pathlib import Path

import pytest
from chaos import Callers, Monkey, Site
from machines import WORKERS, machines
from polling import until
from running import api_key
from witness import JsonMessage, assistant, user

from bridge.shared.link import DEAD_SECONDS
from upstream.arena import Arena

CALLERS = 12
#: Each caller makes at most two requests at once.
AT_ONCE = 2 * CALLERS
#: How long after a kill a request may still begin that fails because of it, in seconds.
NOTICED_SECONDS = 5.0
RENEWED = "eve@example.org"

_logger = logging.getLogger(__name__)


#: How long faults are injected into Redis alone, and then also into processes, in seconds.
ALONE = 6.0
TOGETHER = float(os.environ.get("CHAOS_SECONDS", "15"))


@pytest.mark.slow
@pytest.mark.timeout(240 + 2 * TOGETHER)
async def test_killing_or_freezing_redis_and_workers_fails_only_requests_of_killed_workers(
    arena: Arena, tmp_path: Path
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    site = Site(arena, chance)
    # The last one is renewed often. Processes that cannot get its new cookie while Redis is lost still have the others.
    sessions = [*map(arena.sign_in, ("ada@example.org", "bob@example.org")), arena.sign_in(RENEWED, expires_in=75)]
    arena.token_seconds = 100
    async with machines(arena, tmp_path, *sessions) as both:
        narrow, narrow_key = api_key(name="narrow", concurrency=AT_ONCE)
        await both.add_key(narrow_key)
        added = time.monotonic()
        callers = Callers(both, site, (both.key, narrow), chance)
        assert await goes_on(callers, both.key)  # each turn may reach another process
        await asyncio.sleep(added + 2 - time.monotonic())  # all processes have the key within two seconds
        assert await goes_on(callers, narrow)
        monkey = Monkey(both, chance, sessions)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(callers.converse())
            await monkey.play(ALONE)
            story = f"seed {seed}; {dict(monkey.done)}; {dict(callers.places)}; slowest {callers.slowest:.1f} s"
            assert not callers.failures, (story, callers.failures)  # no request fails because of Redis alone
            monkey.processes = True
            await monkey.play(TOGETHER)
            callers.over.set()
        story = f"seed {seed}; {dict(monkey.done)}; {dict(callers.places)}; slowest {callers.slowest:.1f} s"
        assert not site.all_wrong(), (story, site.all_wrong())
        ended = [line for each in both.daemons for line in each.log if "ended unexpectedly" in line]
        assert len(ended) <= monkey.done["worker killed"], (story, ended)  # only killed workers have ended
        unexplained = [
            failure
            for failure in callers.failures
            if not any(failure.began - NOTICED_SECONDS <= kill <= failure.ended for kill in monkey.kills)
        ]
        assert not unexplained, (story, unexplained)
        _logger.info("%s", story)
        assert sum(callers.places.values()) > 100, story
        assert [session.spent_twice for session in sessions] == [0, 0, 0], story

        await until(lambda: len(both.workers()) == 2 * WORKERS, within=20)
        await all_is_as_before(callers, narrow)
        assert [(await each.stop())[0] for each in both.daemons] == [0, 0]
    assert not site.all_wrong()


async def all_is_as_before(callers: Callers, key: str) -> None:
    """Check that conversations continue on any process, and that killed processes have not leaked slots of a key."""
    began = time.monotonic()
    while not await goes_on(callers, key) or not await all_at_once(callers, key):
        assert time.monotonic() - began < 4 * DEAD_SECONDS, (callers.places, callers.failures[-AT_ONCE:])


async def all_at_once(callers: Callers, key: str) -> bool:
    """Whether all slots of the key are free; those of a killed process become free some time after its end."""
    asked = [callers.ask([user(callers.site.text())], key) for _ in range(AT_ONCE)]
    return all(await asyncio.gather(*asked))


async def goes_on(callers: Callers, key: str) -> bool:
    messages: list[JsonMessage] = []
    before = callers.places["follow-up; known"]
    for _ in range(9):
        messages = [*messages, user(callers.site.text())]
        text = await callers.ask(messages, key)
        if text is None:
            return False
        messages = [*messages, assistant(text)]
    return callers.places["follow-up; known"] == before + 8
