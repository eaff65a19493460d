"""The control API, as used with curl."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from upstream.arena import FAULTS, Arena

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Caller


async def control(caller: Caller, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    answer = await caller.send(method, f"/_arena/{path}", body, headers={})
    return answer.status, json.loads(answer.body)


async def test_faults_are_armed_listed_and_cleared(caller: Caller) -> None:
    status, faults = await control(caller, "GET", "faults")
    assert (status, faults["known"].keys(), faults["armed"]) == (200, FAULTS.keys(), [])
    status, faults = await control(caller, "POST", "faults", b'{"name":"rate_limited","times":2,"retry_after":"0"}')
    expected = {"name": "rate_limited", "times": 2, "on": "stream", "account": None, "parameters": {"retry_after": "0"}}
    assert (status, faults["armed"]) == (200, [expected])
    assert (await caller.ask()).headers["retry-after"] == "0"
    assert (await control(caller, "DELETE", "faults"))[1]["armed"] == []
    assert (await caller.ask()).status == 200


@pytest.mark.parametrize("body", [b"", b"[1]", b"{}", b'{"name":"earthquake"}', b'{"name":"html","nonsense":1}'])
async def test_invalid_faults_are_refused(caller: Caller, body: bytes) -> None:
    status, answer = await control(caller, "POST", "faults", body)
    assert (status, list(answer)) == (400, ["error"])


@pytest.mark.parametrize("arena", [2026], indirect=True)
async def test_traits_are_listed_and_set(arena: Arena, caller: Caller) -> None:
    status, traits = await control(caller, "GET", "traits")
    assert (status, traits["era"], traits["modes"], traits["battle_every"]) == (200, 2026, ["direct-battle"], 0)
    body = b'{"battle_every": 3, "modes": ["direct"], "account_modes": {"ada": []}, "moved_to": "https://arena.ai"}'
    status, changed = await control(caller, "POST", "traits", body)
    assert (status, changed) == (200, {**traits, **json.loads(body)})
    assert (arena.battle_every, list(arena.modes), arena.account_modes) == (3, ["direct"], {"ada": frozenset()})
    assert (await control(caller, "POST", "traits", b'{"battle_every": 1, "era": 2025}'))[1]["modes"] == ["direct"]
    assert (arena.era, arena.page_path, arena.battle_every) == (2025, "/?mode=direct", 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'{"nonsense": 1}',
        b'{"era": 2024}',
        b'{"modes": "direct"}',
        b'{"account_modes": []}',
        b'{"battle_every": -1}',
        b'{"page_models": 1}',
        b'{"page_path": "text/direct"}',
        b'{"token_seconds": "long"}',
        b'{"moved_to": "arena.ai"}',
    ],
)
async def test_invalid_traits_are_refused(arena: Arena, caller: Caller, body: bytes) -> None:
    before = arena.traits()
    status, answer = await control(caller, "POST", "traits", body)
    assert (status, list(answer), arena.traits()) == (400, ["error"], before)


async def test_calls_are_listed_without_secrets_and_without_control_calls(arena: Arena, caller: Caller) -> None:
    await caller.ask("hello there")
    await caller.ask("")
    await control(caller, "GET", "faults")
    status, calls = await control(caller, "GET", "calls")
    assert status == 200
    assert [(call["kind"], call["status"], call["account"]) for call in calls] == [
        ("create", 200, caller.session.user_id),
        ("create", 400, caller.session.user_id),
    ]
    assert "hello there" in calls[0]["body"]
    assert caller.session.cookie_value not in json.dumps(calls)
    assert caller.session.cookie_value not in repr(arena.calls)
