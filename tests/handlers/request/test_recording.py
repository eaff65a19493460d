"""Recording: the file of a recorded request has both sides, and requests that are not recorded are unaffected."""

from __future__ import annotations

import asyncio
import gc
import io
import json
from pathlib import Path
from typing import Any

import pytest
from recorded import recorded, recorded_file
from running import RunningBridge, running_bridge

from bridge.recording.folder import RecordingFiles
from bridge.recording.material import Material
from bridge.state.documents import StateFolder
from bridge.tasks import TaskOwner
from handlers.request.appkeys import BODY_BUDGET, CLIENT
from handlers.request.budget import TOTAL_BYTES
from handlers.request.recording import RECORDER
from upstream.arena import Arena, Line, Until
from upstream.http.exchange import PooledResponse


def streamed(bridge: RunningBridge, prompt: str, **body: object) -> Any:
    async def call() -> None:
        async with await bridge.post(bridge.chat(prompt, stream=True, **body)) as answer:
            await answer.read()

    return call


async def test_a_recording_of_a_stream_has_both_sides(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path) as bridge:
        file = await recorded_file(bridge, streamed(bridge, "/say Zanzibar is an island"))
        again = await recorded(bridge, streamed(bridge, "/say Zanzibar is an island"))
    assert b"Zanzibar" not in file
    assert bridge.key.encode() not in file
    assert again.outcome is not None
    assert again.outcome[:5] == (200, "ok", None, ("stop",), len("Zanzibar is an island"))
    (call,) = [call for call in again.calls if call.kind == "chat"]
    assert (call.status, call.end) == (200, "complete")
    body = b"".join(data for _, data in call.pieces)
    assert body.startswith(b'a0:"Xxxxxxxx')
    assert body.endswith(b'ad:{"finishReason":"stop"}\n')
    assert b"".join(data for _, data in again.pieces).endswith(b"data: [DONE]\n\n")
    assert again.status == 200


async def test_retries_and_a_refusal_are_recorded(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path, {"upstream": {"max_attempts": 1}}) as bridge:
        arena.faults.arm("moderated")
        recording = await recorded(bridge, streamed(bridge, "kumquat"))
    assert recording.outcome is not None
    assert recording.outcome[:3] == (400, "moderated", "content_filter")
    assert recording.status == 400
    assert recording.pieces
    assert [call.status for call in recording.calls if call.kind == "chat"] == [422]


async def test_a_recording_with_texts_still_leaves_out_secrets(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path) as bridge:
        file = await recorded_file(bridge, streamed(bridge, f"/say Zanzibar {bridge.key} ada@x.org"), texts=True)
    assert b"Zanzibar" in file
    assert bridge.key.encode() not in file
    assert b"ada@x.org" not in file


async def test_a_request_with_an_invalid_key_does_not_use_up_the_recording_of_the_next_call(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path) as bridge:

        async def stranger_first() -> None:
            async with await bridge.post(bridge.chat("hi"), headers={"Authorization": "Bearer sk-none"}) as refused:
                assert refused.status == 401
            await streamed(bridge, "hello")()

        recording = await recorded(bridge, stranger_first)
    assert recording.status == 200


async def test_recordings_of_ended_calls_are_kept_up_to_keep_mb(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path, {"recording": {"keep_mb": 1}}) as bridge:
        for number in range(4):
            async with await bridge.post(
                bridge.chat(f"/say {'x' * 100_000}"), headers={"x-request-id": f"call-{number}"}
            ) as answer:
                await answer.read()
        recorder = bridge.app[RECORDER]
        assert recorder.kept("call-0") is None
        assert recorder.kept("call-3") is not None
        files = RecordingFiles(bridge.folder)
        job = files.submit("call-3", texts=False)
        await recorder.look()
        assert files.take_result(job, 10_000_000) is not None


async def test_recordings_share_one_copy_of_the_names_of_the_models(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path, {"recording": {"keep_mb": 1}}) as bridge:
        for number in range(2):
            headers = {"x-request-id": f"call-{number}"}
            async with await bridge.post(bridge.chat("hello"), headers=headers) as answer:
                await answer.read()
        first, second = (bridge.app[RECORDER].kept(f"call-{number}") for number in range(2))
    assert first is not None
    assert second is not None
    assert first.public_names  # 32 KiB for 320 models, which do not count towards the size of a recording
    assert first.public_names is second.public_names


def test_stale_files_of_killed_commands_do_not_hide_a_new_job(tmp_path: Path) -> None:
    files = RecordingFiles(StateFolder(tmp_path))
    for _ in range(120):
        left = files.submit(None, texts=False)
        files.accept(left)
        assert files.claim(left)
    job = files.submit(None, texts=False)
    assert files.jobs() == [job]


async def test_upstream_responses_are_not_wrapped_while_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    async with Arena() as arena, running_bridge(arena, tmp_path) as bridge:
        opened = bridge.app[CLIENT].open

        async def spied(*args: Any, **options: Any) -> Any:
            answer = await opened(*args, **options)
            seen.append(type(answer._response))
            return answer

        monkeypatch.setattr(bridge.app[CLIENT], "open", spied)
        await streamed(bridge, "hello")()
        assert not bridge.app[RECORDER].active
        assert not (bridge.folder.path / "recordings").exists()
    assert seen == [PooledResponse]


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_recorded_body_counts_towards_the_memory_budget_while_its_request_runs(
    leaves: bool, tmp_path: Path
) -> None:
    size = 2_000_000
    async with Arena() as arena, running_bridge(arena, tmp_path, {"recording": {"keep_mb": 1}}) as bridge:
        budget, go_on = bridge.app[BODY_BUDGET], asyncio.Event()
        arena.script = lambda _: [Until(go_on), Line("a0", "one"), Line("ad", {"finishReason": "stop"})]
        async with TaskOwner() as tasks:
            body = io.BytesIO(json.dumps({**bridge.chat("hello"), "ignored": "x" * size}).encode())
            asking = tasks.spawn(bridge.post(body, headers={"x-bridge-join": "false"}), name="ask")
            async with asyncio.timeout(20):
                while not arena.chats:  # noqa: ASYNC110 — the arena sets no event
                    await asyncio.sleep(0.01)
            assert TOTAL_BYTES - budget.free >= size
            if leaves:
                asking.cancel()
            else:
                go_on.set()
                await (await asking).read()
            async with asyncio.timeout(20):
                while budget.free != TOTAL_BYTES or bridge.calls_held:  # noqa: ASYNC110 — nor do these
                    await asyncio.sleep(0.01)
        # The recording is too large to be kept.
        assert not [each for each in gc.get_objects() if isinstance(each, Material) and len(each.body) >= size]


async def test_headers_count_towards_keep_mb_of_recordings(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path, {"recording": {"keep_mb": 1}}) as bridge:
        for at in range(30):
            headers = {"x-request-id": f"call-{at}", "Idempotency-Key": f"{at}" + "k" * 60_000}
            async with await bridge.post(bridge.chat("hello"), headers=headers) as answer:
                assert answer.status == 200
                await answer.read()
        recorder = bridge.app[RECORDER]
        kept = [at for at in range(30) if recorder.kept(f"call-{at}") is not None]
    assert kept == list(range(30 - len(kept), 30))
    assert 10 <= len(kept) <= 2**20 // 60_000
