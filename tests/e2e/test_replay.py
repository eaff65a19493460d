"""Each fault of the site, recorded and replayed, has the same outcome."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import orjson
import pytest
from canaries import ANSWER_WORDS, CALLER_KEY, CLEARANCE, EMAIL, EVALUATION, PASSWORD, PROMPT_WORDS, REFRESH
from click.testing import CliRunner
from recorded import recorded_file
from running import running_bridge

from bridge.recording.document import NotARecording, decode
from handlers.commands.replay import differences_of, replay
from handlers.commands.replaying import play
from upstream.arena import JSON_MODEL, Arena, tool_models

#: Faults with their parameters; each is armed once unless `times` says otherwise.
FAULTS: dict[str, dict[str, object]] = {
    "challenge": {},
    "blocked": {},
    "recaptcha": {},
    "expired": {"times": None},
    "rate_limited": {"retry_after": "7"},
    "prompt_failed": {},
    "terms": {},
    "rejected": {},
    "rejected_zod": {},
    "moderated": {},
    "clock_offset": {},
    "gone": {"times": None},
    "client_error": {"status": 418},
    "odd_status": {"status": 204},
    "server_error": {"status": 502, "times": None},
    "html": {},
    "redirect": {},
    "login_redirect": {},
    "wrong_content_type": {"content_type": "application/json"},
    "encoded": {"coding": "gzip"},
    "reset_before_headers": {},
    "reset_middle": {},
    "eof_middle": {},
    "cut_chunked": {},
    "model_failed_first": {},
    "model_failed_middle": {},
    "model_failed_json": {},
    "arena_error": {},
    "heartbeats": {},
    "finish_unknown": {},
    "finish_length": {},
    "content_filter": {},
    "empty_answer": {"times": None},
    "explained_empty": {"times": None},
    "double_finish": {},
    "text_after_finish": {},
    "broken_json": {},
    "unknown_tags": {},
    "unknown_items": {},
    "split_emoji": {},
    "crlf": {},
    "data_prefix": {},
    "no_final_newline": {},
}
#: Secrets that a prompt may contain.
TOKENS = (EMAIL, CALLER_KEY, PASSWORD, CLEARANCE, REFRESH, EVALUATION)
SETTINGS = {"upstream": {"max_attempts": 2}}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
async def test_a_replayed_fault_ends_as_recorded(fault: str, tmp_path: Path) -> None:
    recording = decode(await recorded_fault(fault, tmp_path))
    played = await play(recording)
    assert differences_of(recording, played) == []
    assert played.notes == ()


@pytest.mark.parametrize("model", ["tools-xml", "tools-bare", "tools-full-width", "tools-wrong-first", JSON_MODEL])
@pytest.mark.slow
async def test_replayed_tool_calls_and_json_answers_end_as_recorded(model: str, tmp_path: Path) -> None:
    parameters = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "harvest_days": {"type": "integer"}, "ripe": {"type": "boolean"}},
        "required": ["name", "harvest_days", "ripe"],
        "additionalProperties": False,
    }
    asked: dict[str, object] = {"tools": [{"type": "function", "function": {"name": "pick", "parameters": parameters}}]}
    if model == JSON_MODEL:
        schema = {"name": "fruit", "strict": True, "schema": parameters}
        asked = {"response_format": {"type": "json_schema", "json_schema": schema}}
    async with Arena(models=tool_models(model)) as arena, running_bridge(arena, tmp_path / "state") as bridge:

        async def call() -> None:
            async with await bridge.post(bridge.chat("kumquats?", model=model, stream=True, **asked)) as answer:
                await answer.read()

        file = await recorded_file(bridge, call)
    assert b"harvest_days" not in file
    recording = decode(file)
    assert recording.outcome is not None
    assert recording.outcome[:4] == (200, "ok", None, ("stop" if model == JSON_MODEL else "tool_calls",))
    assert differences_of(recording, await play(recording)) == []


async def test_a_recorded_follow_up_is_replayed_as_a_follow_up(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path / "state") as bridge:
        first = {"role": "user", "content": "/say kumquats are ripe"}
        async with await bridge.post(bridge.chat(messages=[first])) as answer:
            said = (await answer.json())["choices"][0]["message"]
        history = [first, {"role": "assistant", "content": said["content"]}, {"role": "user", "content": "/say so?"}]
        arena.faults.arm("battle_turn")

        async def call() -> None:
            async with await bridge.post(bridge.chat(messages=history, stream=True)) as answer:
                await answer.read()

        recording = decode(await recorded_file(bridge, call))
    targets = [call.target.rpartition("/stream/")[2].partition("/")[0] for call in recording.calls]
    assert targets == ["post-to-evaluation", "create-evaluation"]
    played = await play(recording)
    assert differences_of(recording, played) == []
    assert played.notes == ()


def test_a_replay_that_ends_as_recorded_exits_0_and_any_other_exits_1(tmp_path: Path) -> None:
    file = tmp_path / "recording.json"
    file.write_bytes(asyncio.run(recorded_fault("model_failed_middle", tmp_path)))
    same = CliRunner().invoke(replay, [str(file), "--json"])
    assert same.exit_code == 0, same.output
    told = orjson.loads(same.output)
    assert told["recorded"]["code"] == told["replayed"]["code"] == "upstream_error"
    assert told["recorded"]["chars"] == told["replayed"]["chars"] > 0
    document = orjson.loads(file.read_bytes())
    (chat,) = (call for call in document["calls"] if call["kind"] == "chat")
    chat["answer"]["pieces"] = [[0, 'a0:"x"\nad:{"finishReason":"length"}\n']]
    file.write_bytes(orjson.dumps(document))
    other = CliRunner().invoke(replay, [str(file)])
    assert other.exit_code == 1
    assert "differs   the finish reason: none in the recording, length now" in other.output


async def test_a_recording_of_a_request_to_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.commands.replaying.END_SECONDS", 0.5)
    async with Arena() as arena, running_bridge(arena, tmp_path) as bridge:

        async def call() -> None:
            async with await bridge.post(bridge.chat("hello")) as answer:
                await answer.read()

        recording = decode(await recorded_file(bridge, call))
    for changed in (
        replace(recording, method=""),
        replace(recording, method="GET"),
        replace(recording, target="/v1/models"),
    ):
        with pytest.raises(NotARecording):
            await play(changed)


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}")
    refused = CliRunner().invoke(replay, [str(file)])
    assert refused.exit_code == 1
    assert "is not a recording that can be replayed: it has no lmarena_bridge_recording" in refused.output


async def recorded_fault(fault: str, tmp_path: Path) -> bytes:
    """Record a call with this fault; check that its file has no secrets and return it."""
    prompt = f"/say {' '.join(ANSWER_WORDS)} {' '.join(PROMPT_WORDS)} {' '.join(TOKENS)}"
    async with Arena() as arena, running_bridge(arena, tmp_path / "state", SETTINGS) as bridge:
        arena.faults.arm(fault, **{"times": 1, **FAULTS[fault]})  # type: ignore[arg-type]

        async def call() -> None:
            async with await bridge.post(bridge.chat(prompt, stream=True)) as answer:
                with suppress(aiohttp.ClientPayloadError):
                    await answer.read()

        file = await recorded_file(bridge, call)
        (account,) = bridge.state.pool
        secrets = (bridge.key, account.session.email, account.user_id, account.session.value[7:40], *TOKENS)
    assert not any(word and word.encode() in file for word in (*PROMPT_WORDS, *ANSWER_WORDS, *secrets))
    return file
