"""`check`'s lines about Redis: whether and how fast it answers, and whether it is configured to keep its data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.state.errors import StateUnavailable
from handlers.commands.check_lines import CheckLine, Verdict

if TYPE_CHECKING:
    from bridge.shared.sharing import Sharing

#: The oldest version of Redis that is supported; Valkey names the version of Redis that it is compatible with.
OLDEST: Final = 7
#: A longer round trip, in seconds, noticeably delays every request, which needs up to three of them.
SLOW_SECONDS: Final = 0.005
_PINGS: Final = 20


class RedisState(NamedTuple):
    """What a server reports: INFO by name, `save` of its configuration (None if it does not say), and a round trip in
    seconds.
    """

    info: Mapping[str, str]
    save: str | None
    round_trip: float


async def redis_lines(sharing: Sharing) -> list[CheckLine]:
    """Check the server that a link is connected to."""
    if sharing.trouble:
        return [CheckLine(Verdict.WORTH_A_LOOK, "Redis", f"{sharing.trouble}; until then a daemon continues alone")]
    link, times = sharing.link, []
    try:
        for _ in range(_PINGS):
            began = time.perf_counter()
            await link.call(("PING",))
            times.append(time.perf_counter() - began)
        texts = await link.run(*[("INFO", section) for section in ("server", "memory", "persistence")])
        (save,) = await link.run(("CONFIG", "GET", "save"))
    except StateUnavailable as error:
        return [CheckLine(Verdict.WORTH_A_LOOK, "Redis", f"{error}")]
    found = RedisState(
        _info(b"\n".join(text for text in texts if isinstance(text, bytes))), _saved(save), median(times)
    )
    return list(judged(found, f"{link.address}"))


def judged(found: RedisState, address: str) -> Iterator[CheckLine]:
    """The lines of a server that answers."""
    info = found.info
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "")
    took = f"{found.round_trip * 1000:.1f} ms per round trip"
    where = f"{name} {version or 'of an unknown version'} at {address}"
    major = info.get("redis_version", "").partition(".")[0]
    if not major.isdecimal() or int(major) < OLDEST:
        yield CheckLine(Verdict.BAD, "Redis", f"{where}: install Redis {OLDEST}, Valkey 8 or newer")
    elif found.round_trip > SLOW_SECONDS:
        slow = f"{where}, {took}: run it on the same machine or network, since every request waits for it"
        yield CheckLine(Verdict.WORTH_A_LOOK, "Redis", slow)
    else:
        yield CheckLine(Verdict.GOOD, "Redis", f"{where}, {took}")
    yield _eviction(info)
    yield _persistence(found)


def _eviction(info: Mapping[str, str]) -> CheckLine:
    policy, limit = info.get("maxmemory_policy", "noeviction"), info.get("maxmemory", "0")
    if policy == "noeviction":
        return CheckLine(Verdict.GOOD, "Redis memory", "nothing is evicted when memory is full (noeviction)")
    if limit == "0":
        return CheckLine(Verdict.GOOD, "Redis memory", "no limit, so nothing is evicted")
    what = f"{policy} evicts keys and accounts when memory is full: set maxmemory-policy noeviction"
    return CheckLine(Verdict.WORTH_A_LOOK, "Redis memory", what)


def _persistence(found: RedisState) -> CheckLine:
    if found.info.get("aof_enabled") == "1":
        return CheckLine(Verdict.GOOD, "Redis on disk", "an append-only file")
    if found.save:
        return CheckLine(Verdict.GOOD, "Redis on disk", f"snapshots (save {found.save})")
    if found.save is None:
        return CheckLine(Verdict.WORTH_A_LOOK, "Redis on disk", "Redis does not say whether it writes snapshots")
    what = "nothing is written, so a restart of Redis loses everything that no running daemon knows: set appendonly yes"
    return CheckLine(Verdict.WORTH_A_LOOK, "Redis on disk", what)


def _info(text: bytes) -> dict[str, str]:
    lines = text.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _saved(reply: object) -> str | None:
    match reply:
        case [_, bytes(save)]:
            return save.decode("ascii", "replace")
    return None
