"""No delta waits for another one or for a task: it is sent in the same turn of the event loop in which it arrived.

Arena, bridge and caller share one loop, which takes a turn only when there is something to do. What the arena writes in
one turn reaches the bridge in the next and the caller's socket in the one after that, and wakes the caller's task for
the third. The arena stamps each delta with the number of its turn.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from caller import calling
from running import running_bridge

from upstream.arena import Arena, Line, Step, Turn, Until

DELTAS = 50


class Turns(selectors.DefaultSelector):
    """A selector that counts the turns of its loop, which waits once in each."""

    count = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Count a turn, and wait as usual."""
        self.count += 1
        return super().select(timeout)


async def turns_on_the_way(turns: Turns, path: Path, api: str, asked: dict[str, object], end: bytes) -> list[int]:
    """How many turns each delta of an answer took from the arena to its reader."""
    read = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        for _delta in range(DELTAS):
            yield Line("a0", f"<{turns.count}>")
            yield Until(read)
            read.clear()
        yield Line("ad", {"finishReason": "stop"})

    taken = []
    async with (
        asyncio.timeout(10),
        Arena() as arena,
        running_bridge(arena, path) as bridge,
        calling(bridge.origin, bridge.key, path=f"/v1/{api}") as caller,
    ):
        arena.script = script
        await caller.ask({"model": bridge.model(), "stream": True, **asked})
        for _ in range(DELTAS):
            stamp = (await caller.sees(b'>"')).rpartition(b"<")[2]
            taken.append(turns.count - int(stamp[:-2]))
            read.set()
        await caller.sees(end)
    return taken


#: The path of each API, a request's fields, and the end of its stream.
APIS: dict[str, tuple[str, dict[str, object], bytes]] = {
    "chat": ("chat/completions", {"messages": [{"role": "user", "content": "speak"}]}, b"[DONE]"),
    "responses": ("responses", {"input": "speak"}, b"response.completed"),
    "messages": (
        "messages",
        {"messages": [{"role": "user", "content": "speak"}], "max_tokens": 10_000},
        b'{"type":"message_stop"}',
    ),
    "completions": ("completions", {"prompt": "speak"}, b"[DONE]"),
}


@pytest.mark.parametrize(("api", "asked", "end"), APIS.values(), ids=APIS)
def test_each_delta_is_sent_in_the_loop_turn_in_which_it_arrives(
    api: str, asked: dict[str, object], end: bytes, tmp_path: Path
) -> None:
    turns = Turns()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        first, *others = runner.run(turns_on_the_way(turns, tmp_path, api, asked, end))
    assert first == 4  # the first delta also wakes the request's task
    assert others == [3] * (DELTAS - 1)
