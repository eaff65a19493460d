"""The command `llm`, with the bridge among its extra models."""

from __future__ import annotations

import hashlib
import json

from clients import CLIENTS, MODEL, FinishedProgram, Served, installed
from pictures import png

pytestmark = CLIENTS


async def llm(served: Served, *words: str, model: str = MODEL) -> FinishedProgram:
    """Run `llm` on a prompt; its history stays in the test's folder."""
    settings = served.folder / "llm"
    settings.mkdir(exist_ok=True)
    api = {"api_base": served.base_url, "api_key_name": "bridge"}
    entry = {"model_id": "bridge", "model_name": model, "vision": True, **api}
    (settings / "extra-openai-models.yaml").write_text(json.dumps([entry]))  # JSON is YAML, too
    command = [str(installed("sdks", "bin/llm")), "prompt", "--key", served.key]
    return await served.run(command, *words, environ={"LLM_USER_PATH": str(settings)})


async def test_each_later_turn_of_a_conversation_is_a_follow_up(served: Served) -> None:
    said = ["llm asks. /say wörld 👋\n\n- and all", "/say more", "/echo"]
    first = await llm(served, "--model", "bridge", said[0])
    assert first.out == "wörld 👋\n\n- and all\n", first.text
    assert (await llm(served, "--continue", said[1])).out == "more\n"
    echo = await llm(served, "--continue", said[2])
    assert [message["content"] for message in json.loads(echo.out)] == [
        said[0],
        "wörld 👋\n\n- and all",
        said[1],
        "more",
        said[2],
    ]
    assert served.calls == ["create", "follow-up", "follow-up"]


async def test_a_picture_arrives_byte_for_byte(served: Served) -> None:
    picture = served.folder / "picture.png"
    picture.write_bytes(png(7))
    ended = await llm(served, "--model", "bridge", "--attachment", str(picture), "llm looks. /say a picture")
    assert ended.out == "a picture\n", ended.text
    assert served.pictures == [hashlib.sha256(png(7)).hexdigest()]


async def test_a_refusal_has_the_bridges_message(served: Served) -> None:
    ended = await llm(served, "--model", "bridge", "hello", model="gpt-2")
    assert ended.status == 1
    assert "The model 'gpt-2' does not exist" in ended.err


async def test_a_failure_in_the_middle_keeps_the_text_so_far_and_has_the_models_error(served: Served) -> None:
    served.arena.faults.arm("model_failed_middle", after=2, message="The model is tired")
    ended = await llm(served, "--model", "bridge", "llm counts. /count 5")
    assert ended.status == 1
    assert ended.out.startswith("1 2 ")
    assert "The model is tired" in ended.err
