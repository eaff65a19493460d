"""The examples of docs/pictures.md, run with the real SDK against a running bridge, as a reader would."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from daemon import ROOT
from pictures import SIZED, SMALL
from running import RunningBridge

from upstream.arena import Arena

_CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> list[str]:
    """The Python code blocks of the page."""
    return _CODE.findall((ROOT / "docs" / "pictures.md").read_text())


class Reader:
    """A reader who pastes the examples in order, with their own address and key."""

    def __init__(self, bridge: RunningBridge) -> None:
        self._bridge = bridge
        self.names: dict[str, Any] = {}

    async def paste(self, code: str, **replaced: str) -> None:
        own = {"http://127.0.0.1:8000/v1": f"{self._bridge.origin}/v1", "sk-lmab-…": self._bridge.key}
        for old, new in (own | replaced).items():
            code = code.replace(old, new)
        await asyncio.to_thread(exec, code, self.names)

    async def stream(self, *messages: Mapping[str, Any]) -> str:
        """Stream an answer with the client and the model of the example."""

        def read() -> str:
            client, model = self.names["client"], self.names["sees"]
            chunks = list(client.chat.completions.create(model=model, messages=messages, stream=True))
            assert chunks[-1].choices[0].finish_reason == "stop"
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

        return await asyncio.to_thread(read)


@pytest.fixture
async def reader(bridge: RunningBridge) -> AsyncIterator[Reader]:
    reader = Reader(bridge)
    yield reader
    reader.names["client"].close()


def shown(arena: Arena) -> list[Mapping[str, Any]]:
    """The pictures that models were shown, in order."""
    return [
        attachment
        for evaluation in arena.evaluations.values()
        for message in evaluation.messages
        for attachment in message.attachments
    ]


def puts(arena: Arena) -> int:
    """The number of uploaded pictures."""
    return sum(call.kind == "put" for call in arena.storage.calls)


@pytest.mark.parametrize("size", [None, 200_001], ids=["small", "200 KB"])
@pytest.mark.parametrize("kind", SMALL)
async def test_the_example_with_a_picture_works_and_two_more_turns_upload_nothing(
    kind: str, size: int | None, arena: Arena, reader: Reader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = SMALL[kind] if size is None else SIZED[kind](size)
    (tmp_path / "cat").write_bytes(data)
    await reader.paste(examples()[0], **{"cat.png": str(tmp_path / "cat"), "image/png": kind})
    answer = reader.names["answer"].choices[0].message.content
    assert capsys.readouterr().out.strip() == answer.strip() != ""
    (stored,) = arena.storage.objects.values()
    assert (stored.data, stored.content_type) == (data, kind)
    (attachment,) = shown(arena)
    assert (attachment["sha256"], attachment["contentType"]) == (stored.sha256, kind)

    question = reader.names["question"]
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    for content in ("Are you sure?", [{"type": "text", "text": "Look!"}, question[1]]):
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": await reader.stream(*messages)})
    assert [each["sha256"] for each in shown(arena)] == [stored.sha256] * 2
    assert len(arena.evaluations) == puts(arena) == 1


@pytest.mark.parametrize("kind", SMALL)
async def test_the_example_with_a_picture_works_streamed(
    kind: str, arena: Arena, reader: Reader, tmp_path: Path
) -> None:
    (tmp_path / "cat").write_bytes(SMALL[kind])
    code, _, _ = examples()[0].partition("answer = ")
    await reader.paste(code, **{"cat.png": str(tmp_path / "cat"), "image/png": kind})
    assert await reader.stream({"role": "user", "content": reader.names["question"]}) != ""
    assert [stored.data for stored in arena.storage.objects.values()] == [SMALL[kind]]
    assert len(shown(arena)) == puts(arena) == 1


async def test_the_example_that_draws_saves_the_drawn_picture(arena: Arena, reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(SMALL["image/png"])
    asking, drawing = examples()
    await reader.paste(asking, **{"cat.png": str(tmp_path / "cat.png")})
    await reader.paste(drawing, **{"hat.png": str(tmp_path / "hat.png")})
    (drawn,) = (found for key, found in arena.storage.objects.items() if key.startswith("generated/"))
    assert (tmp_path / "hat.png").read_bytes() == drawn.data
