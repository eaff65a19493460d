"""A failed call leaves no reference cycles, which would stay in memory until a rare full garbage collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from cyclic_garbage import left_behind
from running import RunningBridge, running_bridge
from site_faults import PROMPT

from upstream.arena import Arena

#: A fault for each way in which a call can fail.
FAULTS: Final[dict[str, dict[str, Any]]] = {
    "rejected": {},
    "evaluation_gone": {},
    "wrong_content_type": {"content_type": "application/json"},
    "reset_before_headers": {},
    "empty_answer": {},
    "model_failed_middle": {},
    "reset_middle": {},
    "expired": {},
}


async def ask(bridge: RunningBridge, **body: object) -> int:
    """Ask, and read whatever comes; return the status."""
    answer = await bridge.post(bridge.chat(PROMPT, **body))
    await answer.read()
    return answer.status


async def test_a_failed_call_leaves_no_reference_cycle(arena: Arena, tmp_path: Path) -> None:
    sessions = tuple(arena.sign_in(f"user{at}@example.org") for at in range(2))
    left_of = {}
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        for fault, parameters in FAULTS.items():
            await ask(bridge)
            arena.faults.arm(fault, None, **parameters)
            with left_behind() as left:
                assert await ask(bridge, stream=True) in (200, 400, 502, 503)
                assert await ask(bridge) in (400, 502, 503)
                arena.faults.clear()
                await ask(bridge)  # aiohttp's connection refers to its last request until it has another
            if left.ours:
                left_of[fault] = left.ours
    assert left_of == {}


async def test_a_failed_request_for_several_answers_leaves_no_reference_cycle(
    arena: Arena, bridge: RunningBridge
) -> None:
    drawings = {"model": bridge.model(output="image"), "prompt": "a cat", "n": 2}

    async def draw() -> int:
        url = f"{bridge.base_url}/images/generations"
        async with bridge.http.post(url, json=drawings, headers=bridge.headers) as answer:
            await answer.read()
            return answer.status

    await bridge.logins_checked()
    assert (await ask(bridge, n=2), await draw()) == (200, 200)
    arena.faults.arm("rejected", None)
    with left_behind() as left:
        assert (await ask(bridge, n=2), await ask(bridge, n=2, stream=True), await draw()) == (400, 400, 400)
        arena.faults.clear()
        await ask(bridge)
    assert not left.ours


def test_the_test_helper_finds_reference_cycles() -> None:
    held: list[object] = []
    with left_behind() as left:
        held.append(held)
        del held
    assert left.others == {": list": 1}
