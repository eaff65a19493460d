"""One request answered by several models side by side: `model: "a+b"`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from frames import DONE, frames
from pictures import picture_part, png
from running import RunningBridge, running_bridge

from bridge.models import MAX_COMPARED_CHARS
from upstream.arena import Arena, Line, Step, Turn


@pytest.fixture
def names(arena: Arena) -> list[str]:
    """The names of models that answer with text."""
    usual = [each for each in arena.models if each.organization and each.modality == "chat"]
    return list(dict.fromkeys(each.public_name for each in usual))[:5]


class Plays:
    """A script in which each model says its name, or fails before or after its first delta."""

    def __init__(self) -> None:
        self.before: set[str] = set()
        self.after: set[str] = set()

    async def __call__(self, turn: Turn) -> AsyncIterator[Step]:
        name = turn.model.public_name
        if name in self.before:
            yield Line("a3", "no more")
            return
        yield Line("a0", f"I am {name}")
        if name in self.after:
            yield Line("a3", "no more")
            return
        yield Line("ad", {"finishReason": "stop"})


async def ask(bridge: RunningBridge, model: str, **body: object) -> tuple[int, bytes]:
    async with await bridge.post(bridge.chat("Who are you?", model=model, **body)) as answer:
        return answer.status, await answer.read()


def told(body: bytes) -> tuple[dict[int, str], dict[int, str], dict[int, str]]:
    """The texts, finish reasons and models of a stream's choices."""
    *chunks, done = frames(body)
    assert done == DONE
    texts: dict[int, str] = defaultdict(str)
    ends: dict[int, str] = {}
    models: dict[int, str] = {}
    for chunk in map(orjson.loads, chunks):
        for choice in chunk["choices"]:
            index = choice["index"]
            assert index not in ends, "nothing behind the end of a choice"
            assert models.setdefault(index, choice["model"]) == choice["model"]
            texts[index] += choice["delta"].get("content") or ""
            if choice["finish_reason"]:
                ends[index] = choice["finish_reason"]
                assert ("error" in choice) == (choice["finish_reason"] == "error")
    return dict(texts), ends, models


async def test_each_model_gives_a_choice(arena: Arena, bridge: RunningBridge, names: list[str]) -> None:
    arena.script = Plays()
    first, second = names[:2]
    client = openai.AsyncOpenAI(api_key=bridge.key, base_url=bridge.base_url, max_retries=0)
    messages: Any = [{"role": "user", "content": "Who are you?"}]
    async with client:
        whole = await client.chat.completions.create(model=f"{first}+{second}", messages=messages)
        assert [choice.index for choice in whole.choices] == [0, 1]
        assert [choice.message.content for choice in whole.choices] == [f"I am {first}", f"I am {second}"]
        extra = [choice.model_extra or {} for choice in whole.choices]
        assert [each["model"] for each in extra] == [first, second]
        assert whole.usage is not None
        assert whole.usage.completion_tokens == sum(each["usage"]["completion_tokens"] for each in extra) > 2
        stream = await client.chat.completions.create(
            model=f"{first} + {second}", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        texts: dict[int, str] = defaultdict(str)
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        assert dict(texts) == {0: f"I am {first}", 1: f"I am {second}"}
    assert len(arena.chats) == 4
    assert bridge.calls_held == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("failing", [0, 1])
async def test_a_model_that_fails_leaves_the_others_answer_complete(
    arena: Arena, bridge: RunningBridge, names: list[str], when: str, failing: int
) -> None:
    arena.script = plays = Plays()
    setattr(plays, when, {names[failing]})
    model = "+".join(names[:2])
    said = [f"I am {name}" for name in names[:2]]
    if when == "before":
        said[failing] = ""
    status, body = await ask(bridge, model, stream=True)
    assert status == 200
    texts, ends, models = told(body)
    assert ([texts[0], texts[1]], [models[0], models[1]]) == (said, names[:2])
    assert (ends[failing], ends[1 - failing]) == ("error", "stop")
    status, body = await ask(bridge, model)
    choices = orjson.loads(body)["choices"]
    assert (status, [choice["message"]["content"] for choice in choices]) == (200, said)
    assert choices[failing]["finish_reason"] == "error"
    assert choices[failing]["error"]["code"] == "upstream_error"
    assert "error" not in choices[1 - failing]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_fails_where_all_its_models_fail(
    arena: Arena, bridge: RunningBridge, names: list[str], stream: bool
) -> None:
    arena.script = plays = Plays()
    plays.before = {*names}
    status, body = await ask(bridge, "+".join(names[:3]), stream=stream)
    assert (status, orjson.loads(body)["error"]["code"]) == (502, "upstream_error")
    plays.before, plays.after = set(), {*names}
    status, body = await ask(bridge, "+".join(names[:2]), stream=stream)
    assert status == (200 if stream else 502)
    assert b"[DONE]" not in body
    assert orjson.loads(frames(body)[-1] if stream else body)["error"]["code"] == "upstream_error"


async def test_a_models_name_may_contain_a_plus(arena: Arena, tmp_path: Path, names: list[str]) -> None:
    aliases = {f"{names[0]}+{names[1]}": names[2], "*": names[3]}
    arena.script = Plays()
    async with running_bridge(arena, tmp_path, {"models": {"aliases": aliases}}) as bridge:
        _, body = await ask(bridge, f"{names[0]}+{names[1]}")
        assert [each["message"]["content"] for each in orjson.loads(body)["choices"]] == [f"I am {names[2]}"]
        _, body = await ask(bridge, f"{names[1]}+{names[0]}")
        assert len(orjson.loads(body)["choices"]) == 2


async def test_comparisons_that_cannot_be_made_are_refused(bridge: RunningBridge, names: list[str]) -> None:
    first = names[0]
    for model, more, status, param in (
        ("+".join(names), {}, 400, "model"),
        ("+".join(names[:2]), {"n": 2}, 400, "n"),
        (f"{first}+no-such-model", {}, 404, "model"),
        (f"{first}+", {}, 404, "model"),
        ("+", {}, 404, "model"),
        (f"{first}{' ' * MAX_COMPARED_CHARS}+{names[1]}", {}, 404, "model"),
    ):
        answered, body = await ask(bridge, model, **more)
        assert (answered, orjson.loads(body)["error"]["param"]) == (status, param), model
    url = f"{bridge.base_url}/completions"
    body_of = {"model": "+".join(names[:2]), "prompt": "Hello"}
    async with bridge.http.post(url, json=body_of, headers=bridge.headers) as answer:
        assert answer.status == 400
        assert "/v1/chat/completions" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize("order", [1, -1])
async def test_parameters_that_any_compared_model_ignores_are_named_in_a_header(
    bridge: RunningBridge, order: int
) -> None:
    model = "+".join(["qwen4-max-preview", "gemini-4-pro"][::order])
    content = [{"type": "text", "text": "/say hello"}, picture_part(png())]
    body = bridge.chat(messages=[{"role": "user", "content": content}], model=model, temperature=1)
    async with await bridge.post(body) as answer:
        assert answer.status == 200
        assert set(answer.headers["x-bridge-ignored"].split(", ")) == {"temperature", "images"}
