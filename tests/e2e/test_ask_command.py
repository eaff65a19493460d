"""`chat` with a question, without a terminal: answers, refusals, hostile servers, no running bridge."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket

import pytest
from commands import COMMAND, run, spawn
from hostile_api import STEERING, event, hostile, steers
from running import RunningBridge

from upstream.arena import Line, Until

pytestmark = pytest.mark.usefixtures("elsewhere")

STOP = Line("ad", {"finishReason": "stop"})


async def test_chat_answers_with_the_first_model_listed(bridge: RunningBridge) -> None:
    result = await spawn("chat", "--url", bridge.origin, "Hello", "there", OPENAI_API_KEY=bridge.key)
    assert (result.returncode, result.stderr) == (0, "")
    assert bridge.arena.chats[-1].model_id == bridge.arena.models[0].id
    assert "played by the embedded arena" in result.stdout


async def test_chat_reads_its_text_from_a_pipe_and_keeps_thoughts_off_stdout(bridge: RunningBridge) -> None:
    words = ["chat", "--url", bridge.base_url, "--model", bridge.model(), "--key", bridge.key]
    result = await spawn(*words, stdin="/think /say wörld 👋")
    assert (result.returncode, result.stdout) == (0, "wörld 👋\n")
    assert "short and kind" in result.stderr


async def test_chat_prints_each_delta_as_it_arrives(bridge: RunningBridge) -> None:
    release = asyncio.Event()
    bridge.arena.script = lambda _: [Line("a0", "first"), Until(release), Line("a0", " second"), STOP]
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "chat", "--url", bridge.origin, "hi",
        env={**os.environ, "OPENAI_API_KEY": bridge.key}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readexactly(5) == b"first"
    release.set()
    assert await process.stdout.read() == b" second\n"
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        pytest.param(["--model", "nope"], None, "The model 'nope' does not exist", id="unknown model"),
        pytest.param([], "sk-lmab-wrong", "Incorrect or missing API key", id="wrong key"),
    ],
)
async def test_chat_prints_a_refusal_with_the_message_of_the_api(
    bridge: RunningBridge, words: list[str], key: str | None, said: str
) -> None:
    result = await spawn("chat", "--url", bridge.origin, *words, "hi", OPENAI_API_KEY=key or bridge.key)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {said}")


@pytest.mark.parametrize("fault", ["model_failed_middle", "reset_middle", "eof_middle"])
async def test_chat_exits_1_when_an_answer_breaks_off(bridge: RunningBridge, fault: str) -> None:
    bridge.arena.faults.arm(fault, after=1)
    result = await spawn("chat", "--url", bridge.origin, "/say one two three", OPENAI_API_KEY=bridge.key)
    assert result.returncode == 1
    assert result.stdout == "one \n"
    assert result.stderr.startswith("Error: ")


HOSTILE_ANSWERS: dict[str, tuple[int, bytes]] = {
    "a refusal": (400, json.dumps({"error": {"message": STEERING}}).encode()),
    "an error in a stream": (200, event(error={"message": STEERING})),
    "an error after a delta": (
        200,
        event(choices=[{"delta": {"content": "hi"}}]) + event(error={"message": STEERING}),
    ),
    "an error without a word": (200, event(error={"message": ""})),
    "no JSON": (500, STEERING.encode(errors="replace")),
    "JSON nested too deeply": (400, b"[" * 100_000),
    "an event nested too deeply": (200, b"data: " + b"[" * 100_000 + b"\n\n"),
    "a line without an end": (200, b"data: " + b"x" * 5_000_000),
    "an answer without an end": (400, b"x" * 17_000_000),
}


@pytest.mark.parametrize(("status", "body"), HOSTILE_ANSWERS.values(), ids=HOSTILE_ANSWERS)
async def test_control_characters_from_a_hostile_server_are_not_printed(status: int, body: bytes) -> None:
    async with hostile(status, body) as origin:
        result = await spawn("chat", "--url", origin, "hi", OPENAI_API_KEY="k")
    assert result.returncode == 1
    assert re.search("Error: [^\n]", result.stderr)
    assert "Traceback" not in result.stderr
    assert not steers(result.stderr)


def test_chat_reports_when_no_bridge_is_running() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        env = {"LMARENA_BRIDGE_SERVER__PORT": str(unused.getsockname()[1]), "OPENAI_API_KEY": "k"}
        result = run("chat", "hi", **env)
    assert result.exit_code == 1
    assert "no bridge answers at http://127.0.0.1:" in result.stderr
    assert "Is it running?" in result.stderr


@pytest.mark.parametrize(
    "url", ["http://a..b/v1", f"http://{'a' * 64}.example/v1", "ftp://127.0.0.1", "http://127.0.0.1:0"]
)
def test_chat_refuses_a_url_that_names_no_server(url: str) -> None:
    result = run("chat", "--url", url, "hi", OPENAI_API_KEY="k")
    assert result.exit_code == 2
    assert "must be a URL such as" in result.stderr
