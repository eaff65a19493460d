"""Prints which kinds of calls leave reference cycles behind, which only a full garbage collection frees.

python tests/attacks/cycles.py [WORD …]      only rows with one of these words

Each row is run twice, streamed and not streamed where there is a choice, on a separate bridge in this process. Cycles
counted as `ours` contain an object or a frame of the daemon; the others are those of asyncio, aiohttp and the arena's
connections. The exit status is 1 if there is any cycle of ours.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

from polling import until

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/harness")]  # the imports below need it: hence their E402

from cyclic_garbage import left_behind  # noqa: E402 — the path is set above
from running import RunningBridge, running_bridge  # noqa: E402 — the path is set above
from site_faults import BEFORE_THE_ANSWER, HARMLESS, IN_THE_MIDDLE, PROMPT  # noqa: E402 — the path is set above

from bridge.tasks import TaskOwner  # noqa: E402 — the path is set above
from handlers.request.appkeys import JOINABLE, RENEWALS  # noqa: E402 — the path is set above
from upstream.arena import Arena  # noqa: E402 — the path is set above

#: An operation on a bridge, streamed or not; returns its result for the table.
Do: TypeAlias = Callable[[RunningBridge, bool], Coroutine[Any, Any, object]]

TOOL: Final = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def asked(path: str = "chat/completions", *, output: str = "text", **body: Any) -> Do:
    """POST a body with the name of a model."""

    async def ask(bridge: RunningBridge, stream: bool) -> int:
        sent = {"model": bridge.model(output=output), **({"stream": True} if stream else {}), **body}
        async with bridge.http.post(f"{bridge.base_url}/{path}", json=sent, headers=bridge.headers) as answer:
            await answer.read()
            return answer.status

    return ask


def chatted(**body: Any) -> Do:
    """POST a chat."""
    return asked(**{"messages": [{"role": "user", "content": PROMPT}], **body})


def sent(method: str, path: str, data: bytes | None = None, key: str | None = None) -> Do:
    """Send an arbitrary request."""

    async def send(bridge: RunningBridge, _stream: bool) -> int:
        headers = bridge.headers if key is None else {"Authorization": f"Bearer {key}"}
        async with bridge.http.request(method, bridge.origin + path, data=data, headers=headers) as answer:
            await answer.read()
            return answer.status

    return send


async def leave(bridge: RunningBridge, stream: bool) -> str:
    """Disconnect from a long answer that no repeated request joins."""
    return await left(chatted(messages=long()), bridge, stream)


async def leave_two(bridge: RunningBridge, stream: bool) -> str:
    """Disconnect from an answer with two choices, and from the answers of two models."""
    await left(chatted(messages=long(), n=2), bridge, stream)
    return await left(chatted(messages=long(), model=two_of(bridge)), bridge, stream)


async def leave_drawings(bridge: RunningBridge, _stream: bool) -> str:
    """Disconnect from a request for two pictures."""
    bridge.arena.faults.arm("silent_start", None)
    return await left(asked("images/generations", output="image", prompt=f"a cat {time.time()}", n=2), bridge, False)


def long() -> list[dict[str, str]]:
    """A unique question with a long answer."""
    return [{"role": "user", "content": f"/say {time.time()} {'word ' * 500}"}]


def two_of(bridge: RunningBridge) -> str:
    """The names of two models, for a comparison."""
    return f"{bridge.model()}+{bridge.model(thinking=True)}"


async def left(ask: Do, bridge: RunningBridge, stream: bool) -> str:
    """Send a request, disconnect while it is being answered, and wait until its calls have ended."""
    async with TaskOwner() as tasks:  # cancels the request at the end
        tasks.spawn(ask(bridge, stream), name="leaves")
        await until(lambda: bridge.calls_held)
        await asyncio.sleep(0.1)
    while bridge.calls_held:
        for answer in bridge.app[JOINABLE]:
            if not answer.attended:
                bridge.app[JOINABLE].give_up(answer)
        await asyncio.sleep(0.01)
    return "left"


def joined(fault: str | None) -> Do:
    """Send three equal requests at once, with a fault armed if given."""

    async def join(bridge: RunningBridge, stream: bool) -> object:
        if fault is not None:
            bridge.arena.faults.arm(fault, None)
        return await asyncio.gather(*[chatted()(bridge, stream) for _ in range(3)])

    return join


async def compared(bridge: RunningBridge, stream: bool) -> object:
    """Send a request for two models, both of which the site refuses."""
    bridge.arena.faults.arm("rejected", None)
    return await chatted(model=two_of(bridge))(bridge, stream)


async def drawn(bridge: RunningBridge, _stream: bool) -> object:
    """Request two pictures."""
    return await asked("images/generations", output="image", prompt="a cat", n=2)(bridge, False)


def refused(ask: Do) -> Do:
    """Send a request that the site refuses."""

    async def ask_in_vain(bridge: RunningBridge, stream: bool) -> object:
        bridge.arena.faults.arm("rejected", None)
        return await ask(bridge, stream)

    return ask_in_vain


def renewed(fault: str | None = None) -> Do:
    """Check the login of the only account, with a fault armed if given."""

    async def renew(bridge: RunningBridge, _stream: bool) -> object:
        if fault is not None:
            bridge.arena.faults.arm(fault, 1, on="me")
        (account,) = bridge.state.pool
        return await bridge.app[RENEWALS].is_alive(account)

    return renew


DONE: Final[dict[str, Do]] = {
    "ends well: chat": chatted(),
    "ends well: responses": asked("responses", input=PROMPT),
    "ends well: messages": asked("messages", max_tokens=99, messages=[{"role": "user", "content": PROMPT}]),
    "ends well: completions": asked("completions", prompt=PROMPT),
    "ends well: tools": chatted(tools=[TOOL]),
    "ends well: two choices": chatted(n=2),
    "ends early: stop": chatted(stop=["three"]),
    "ends early: max_tokens": chatted(max_tokens=2),
    "refused by a stage: required tools": chatted(tools=[TOOL], tool_choice="required"),
    "refused by a stage: no JSON": chatted(response_format={"type": "json_object"}),
    "refused here: no such model": chatted(model="nobody"),
    "refused here: no messages": chatted(messages=[]),
    "refused here: too long": chatted(messages=[{"role": "user", "content": "x" * 200_000}]),
    "refused here: no JSON": sent("POST", "/v1/chat/completions", b"{nope"),
    "refused here: no UTF-8": sent("POST", "/v1/chat/completions", b"\xff\xfe{"),
    "refused here: no body": sent("POST", "/v1/chat/completions", b""),
    "refused here: no such key": sent("POST", "/v1/chat/completions", b"{}", key="sk-nobody"),
    "refused here: no such path": sent("GET", "/v1/nothing"),
    "a caller leaves": leave,
    "a caller leaves: two answers": leave_two,
    "a caller leaves: drawings": leave_drawings,
    "joined: ends well": joined(None),
    "joined: refused": joined("rejected"),
    "joined: breaks off": joined("reset_middle"),
    "compared: refused": compared,
    "two choices: refused": refused(chatted(n=2)),
    "draws": drawn,
    "draws: refused": refused(drawn),
    "renewal": renewed(),
    "renewal: refused": renewed("expired"),
    "renewal: reset": renewed("reset_before_headers"),
    "renewal: a page": renewed("html"),
}


async def measured(path: Path, name: str, do: Do, patience: float, *faults: tuple[str, str, Any]) -> bool:
    """Run the operation and print its row; return whether it left no cycle of ours.

    A fault is given by its name, the kind of call that it affects, and its parameters.
    """
    overrides = {"upstream": {"first_byte_timeout": patience, "idle_timeout": patience}}
    async with Arena(pace=0.002) as arena, running_bridge(arena, path / "state", overrides) as bridge:
        await bridge.logins_checked()
        await chatted()(bridge, False)
        for fault, on, parameters in faults:
            arena.faults.arm(fault, None, on=on, **parameters)
        with left_behind() as left:
            came = [await do(bridge, True), await do(bridge, False)]
            arena.faults.clear()
            await chatted()(bridge, False)  # aiohttp's connection refers to its last request until the next one
    print(f"{name:45} ours {left.ours.total():3}  others {left.others.total():3}  {came}", flush=True)
    for cycle, number in left.ours.most_common():
        print(f"    {number} × {cycle}")
    return not left.ours


async def main(words: list[str]) -> bool:
    """Print the table; return whether no row left a cycle of ours."""
    rows: list[tuple[str, Do, float, tuple[tuple[str, str, Any], ...]]] = [
        *((name, do, 60.0, ()) for name, do in DONE.items()),
        *(
            (f"fails: {name}", chatted(), row.patience, tuple((row.fault, on, row.parameters) for on in row.on))
            for name, row in BEFORE_THE_ANSWER.items()
        ),
        *(
            (f"breaks off: {name}", chatted(), each.patience, ((each.fault, "stream", each.parameters),))
            for name, each in IN_THE_MIDDLE.items()
        ),
        *(
            (f"harmless: {name}", chatted(), 60.0, ((fault, "stream", parameters),))
            for name, (fault, parameters, _) in HARMLESS.items()
        ),
    ]
    clean = True
    with TemporaryDirectory(prefix="cycles-") as folder:
        for at, (name, do, patience, faults) in enumerate(rows):
            if not words or any(word in name for word in words):
                clean &= await measured(Path(folder) / str(at), name, do, patience, *faults)
    return clean


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(sys.argv[1:])) else 1)
