"""A cookie that is refused once and accepted again at once: no caller notices, and no account is marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pictures import png, user_with
from polling import until
from running import RunningBridge, running_bridge

from handlers.request.appkeys import CLIENT, RENEWALS
from upstream.arena import Arena
from upstream.protocol.renewal import FIRST_REPEAT_SECONDS

#: What the site answers once → the fault, the kind of call, and the fault's parameters.
REFUSALS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "401": ("expired", "stream", {}),
    "302 to the login": ("login_redirect", "stream", {}),
    "302 to /login": ("redirect", "stream", {"location": "/login", "status": 302}),
    "303 to /sign-in": ("redirect", "stream", {"location": "/sign-in?next=%2Ftext", "status": 303}),
    "307 to /auth": ("redirect", "stream", {"location": "/auth/callback", "status": 307}),
    "401 of an upload": ("expired", "upload-url", {}),
    "302 of an upload": ("login_redirect", "upload-url", {}),
    "401 of a signature": ("expired", "sign", {}),
}


async def ask(bridge: RunningBridge) -> int:
    model = next(model.public_name for model in bridge.arena.models if "image" in model.inputs)
    async with await bridge.post(bridge.chat(model=model, messages=[user_with("hello", png())])) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("accounts", [1, 2])
@pytest.mark.parametrize(("fault", "on", "parameters"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_cookie_refused_only_once_fails_no_request(
    arena: Arena, tmp_path: Path, fault: str, on: str, parameters: dict[str, Any], accounts: int
) -> None:
    sessions = tuple(arena.sign_in(f"user{at}@example.org") for at in range(accounts))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        arena.calls.clear()
        arena.faults.arm(fault, on=on, **parameters)
        assert [await ask(bridge) for _ in range(3)] == [200, 200, 200]
        assert not arena.faults.armed()
        assert not any(account.expired for account in bridge.state.pool)
        assert sum(call.kind == "me" for call in arena.calls) == 1  # the account was asked about at once


async def test_a_follow_up_refused_only_once_succeeds(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await bridge.logins_checked()
        first = {"role": "user", "content": "/say one"}
        async with await bridge.post(bridge.chat(messages=[first])) as response:
            said = (await response.json())["choices"][0]["message"]
        arena.faults.arm("expired", on="follow-up")
        messages = [first, said, {"role": "user", "content": "/say two"}]
        async with await bridge.post(bridge.chat(messages=messages)) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == "two"
        assert not any(account.expired for account in bridge.state.pool)


@pytest.mark.parametrize("fault", ["expired", "login_redirect"])
async def test_an_account_refused_everywhere_is_revived_once_the_refusals_end(
    arena: Arena, tmp_path: Path, fault: str
) -> None:
    """The check is refused too, so the account is marked, and is checked again after five seconds."""
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await bridge.logins_checked()
        arena.faults.arm(fault, None)
        arena.faults.arm(fault, on="me")
        assert await ask(bridge) == 503
        assert all(account.expired for account in bridge.state.pool)
        arena.faults.clear()
        bridge.app[CLIENT].clock.skew = FIRST_REPEAT_SECONDS  # this much later
        bridge.app[RENEWALS].wake()
        await until(lambda: not any(account.expired for account in bridge.state.pool))
        assert await ask(bridge) == 200
