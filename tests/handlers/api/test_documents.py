"""PDFs in chats: uploaded like pictures for models that read them, and a 400 that names the part for all others."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from documents import BAD_FILES, PDF, BadFile, bare, file_part, input_file, pdf, user_reading
from openai.types.chat.chat_completion_content_part_param import File
from pictures import data_url, picture_part, png
from running import RunningBridge, running_bridge
from tenacity import wait_none

from handlers.request.budget import SMALL_BYTES
from upstream.arena import Arena, Call, Model

READS = "reads"
READS_AND_SEES = "reads-and-sees"
SEES = "sees"
TALKS = "talks"

_TEXT = {"text": True}
_MANY = {"multipleImages": True}
MODELS = (
    Model("6f1c1a52-0000-4000-8000-00000000aaaa", READS, _TEXT, {"text": True, "image": False, "file": True}, "acme"),
    Model("6f1c1a52-0000-4000-8000-00000000bbbb", READS_AND_SEES, _TEXT, {**_TEXT, "image": _MANY, "file": True}, "a"),
    Model("6f1c1a52-0000-4000-8000-00000000cccc", SEES, _TEXT, {"text": True, "image": _MANY, "file": False}, "acme"),
    Model("6f1c1a52-0000-4000-8000-00000000dddd", TALKS, _TEXT, organization="acme"),
)

A, B, C = pdf(0xA), pdf(0xB), pdf(0xC)
PICTURE = png(0xA)

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.retry._back_off", wait_none())


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=MODELS) as arena:
        yield arena


@dataclass
class Chat:
    """A client in the middle of a conversation: it sends its whole history each time."""

    bridge: RunningBridge
    model: str = READS_AND_SEES
    messages: list[Mapping[str, Any]] = field(default_factory=list)

    async def say(self, text: str, *documents: bytes) -> str:
        """Send the next turn; return what `x-bridge-conversation` says."""
        self.messages.append(user_reading(text, *documents))
        async with await self.bridge.post(self.bridge.chat(messages=self.messages, model=self.model)) as answer:
            assert answer.status == 200, await answer.text()
            self.messages.append((await answer.json())["choices"][0]["message"])
            return answer.headers["x-bridge-conversation"].partition(";")[0]


def calls(arena: Arena) -> list[Call]:
    """The calls about evaluations."""
    return arena.chats


def sent(arena: Arena) -> dict[str, Any]:
    """The user message of the last call."""
    message: dict[str, Any] = json.loads(calls(arena)[-1].body)["userMessage"]
    return message


def seen(arena: Arena) -> list[bytes]:
    """The files that the model was shown with the last turn, as the storage has them."""
    return [arena.storage.objects[each["name"]].data for each in sent(arena)["experimental_attachments"]]


def uploads(arena: Arena) -> Counter[str]:
    """How often each step of an upload was taken."""
    kinds = Counter(call.kind for call in (*arena.calls, *arena.storage.calls))
    return Counter({kind: kinds[kind] for kind in ("upload-url", "put", "sign") if kinds[kind]})


async def refusal(bridge: RunningBridge, messages: object, model: str, *, stream: bool = False) -> dict[str, Any]:
    """Send a request that is refused with 400; return the error."""
    body = json.dumps(bridge.chat(messages=messages, model=model, stream=stream)).encode()
    async with await bridge.post(io.BytesIO(body)) as answer:
        error: dict[str, Any] = (await answer.json())["error"]
    assert (answer.status, error["type"]) == (400, "invalid_request_error")
    return error


# What the site receives


@streamed_and_not
async def test_a_document_is_uploaded_under_a_name_that_the_bridge_chooses(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    body = bridge.chat(messages=[user_reading("/say hello", A)], model=READS, stream=stream)
    async with await bridge.post(body) as answer:
        assert answer.status == 200
        assert "hello" in await answer.text()
        assert answer.headers["x-bridge-ignored"] == "file.filename"
    (upload_url,) = [call for call in arena.calls if call.kind == "upload-url"]
    name, content_type = json.loads(upload_url.body)
    assert content_type == "application/pdf"
    (put,) = arena.storage.calls
    assert put.headers["content-type"] == "application/pdf"
    message = sent(arena)
    (attachment,) = message["experimental_attachments"]
    assert message["content"] == "/say hello"
    assert attachment["contentType"] == "application/pdf"
    assert attachment["name"].endswith(f"-{name}")
    assert name.startswith("document-")
    assert name.endswith(".pdf")
    assert "report" not in json.dumps([attachment, upload_url.body.decode(), put.key])
    assert seen(arena) == [A]


async def test_a_file_part_of_the_openai_sdk_is_uploaded(arena: Arena, bridge: RunningBridge) -> None:
    file: File = {"type": "file", "file": {"filename": "a.pdf", "file_data": data_url(A, PDF)}}
    answer = await bridge.sdk().chat.completions.create(
        model=READS, messages=[{"role": "user", "content": [file, {"type": "text", "text": "/say hello"}]}]
    )
    assert answer.choices[0].message.content == "hello"
    assert seen(arena) == [A]


@pytest.mark.parametrize("size", [1000, SMALL_BYTES], ids=["short", "long"])
@pytest.mark.parametrize(
    "part",
    [
        input_file,
        file_part,
        lambda data: {"type": "file", "file": {"file_data": bare(data)}},
        lambda data: {"type": "input_file", "file_data": bare(data)},
    ],
    ids=["an input_file", "a file", "a file's bare base64", "an input_file's bare base64"],
)
async def test_a_document_arrives_whole_in_every_form_of_file_part(
    part: Callable[[bytes], dict[str, Any]], size: int, arena: Arena, bridge: RunningBridge
) -> None:
    document = pdf(size=size)
    messages = [{"role": "user", "content": [part(document), picture_part(PICTURE), {"type": "text", "text": "see"}]}]
    body = json.dumps(bridge.chat(messages=messages, model=READS_AND_SEES)).encode()
    async with await bridge.post(io.BytesIO(body)) as answer:
        assert answer.status == 200, await answer.text()
    assert seen(arena) == [document, PICTURE]


async def test_several_documents_go_to_a_model_that_takes_one_picture_at_most(
    arena: Arena, bridge: RunningBridge
) -> None:
    await Chat(bridge, READS).say("compare", A, B)
    assert seen(arena) == [A, B]


async def test_a_model_that_reads_but_does_not_see_gets_the_document_without_the_picture(
    arena: Arena, bridge: RunningBridge
) -> None:
    messages = [{"role": "user", "content": [picture_part(PICTURE), file_part(A), {"type": "text", "text": "see"}]}]
    async with await bridge.post(bridge.chat(messages=messages, model=READS)) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["x-bridge-ignored"] == "file.filename, images"
    assert seen(arena) == [A]


# Conversations


async def test_a_follow_up_sends_only_its_own_document(arena: Arena, bridge: RunningBridge) -> None:
    chat = Chat(bridge)
    assert await chat.say("sum it up", A) == "new"
    assert await chat.say("are you sure?") == "follow-up"
    assert seen(arena) == []
    assert await chat.say("and this one", B) == "follow-up"
    assert (seen(arena), sent(arena)["content"]) == ([B], "and this one")
    assert uploads(arena) == {"upload-url": 2, "put": 2, "sign": 2}
    assert len(arena.evaluations) == 1


async def test_a_document_without_text_can_follow_up(arena: Arena, bridge: RunningBridge) -> None:
    chat = Chat(bridge)
    await chat.say("I shall send you a report")
    assert await chat.say("", A) == "follow-up"
    assert (seen(arena), sent(arena)["content"]) == ([A], "")


async def test_a_history_with_another_document_starts_a_new_evaluation(arena: Arena, bridge: RunningBridge) -> None:
    chat = Chat(bridge)
    await chat.say("sum it up", A)
    answer = chat.messages[-1]
    for documents in ((B,), (), (A, A)):
        chat.messages[:] = [user_reading("sum it up", *documents), answer]
        assert await chat.say("are you sure?") == "new"
        assert seen(arena) == list(documents)
    chat.messages[:] = [user_reading("sum it up", A), answer]
    assert await chat.say("are you sure?") == "follow-up"


async def test_a_new_evaluation_gets_the_documents_of_the_whole_history(arena: Arena, bridge: RunningBridge) -> None:
    chat = Chat(bridge)
    first = {"role": "user", "content": [file_part(A), picture_part(PICTURE), {"type": "text", "text": "first"}]}
    chat.messages += [first, {"role": "assistant", "content": "I see"}]
    assert await chat.say("second", B, C) == "new"
    assert seen(arena) == [A, PICTURE, B, C]
    assert sent(arena)["content"].endswith(
        "[User, document 1, picture 1]\nfirst\n\n[Assistant]\nI see\n\n[User, document 2, document 3]\nsecond"
    )


# What is refused


@streamed_and_not
@pytest.mark.parametrize("model", [SEES, TALKS])
async def test_a_document_for_a_model_that_reads_none_is_a_400_that_names_the_part(
    model: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "see"}, picture_part(PICTURE), input_file(A)]},
        user_reading("and this one", B),
    ]
    error = await refusal(bridge, messages, model, stream=stream)
    assert (error["code"], error["param"]) == ("unsupported_parameter", "messages[1].content[2]")
    assert f"'{model}' does not accept documents" in error["message"]
    assert not calls(arena)
    assert not uploads(arena)


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES)
async def test_a_bad_file_is_named_in_the_error_before_any_upstream_call(
    bad: BadFile, arena: Arena, bridge: RunningBridge
) -> None:
    messages = [user_reading("fine", A), {"role": "user", "content": [{"type": "text", "text": "see"}, bad.part()]}]
    for model in (READS, TALKS):
        error = await refusal(bridge, messages, model)
        assert (error["code"], error["param"]) == (bad.code, f"messages[1].content[1].{bad.param}")
    assert not calls(arena)
    assert not uploads(arena)


async def test_the_configured_limits_hold_for_documents_and_pictures_together(arena: Arena, tmp_path: Path) -> None:
    limits = {"images": {"max_bytes": 2000, "max_per_request": 2}}
    async with running_bridge(arena, tmp_path, limits) as bridge:
        await Chat(bridge).say("see", pdf(size=2000), B)
        error = await refusal(bridge, [user_reading("see", pdf(size=2001))], READS)
        assert (error["code"], error["param"]) == ("file_too_large", "messages[0].content[0].file.file_data")
        parts = [picture_part(PICTURE), file_part(A), file_part(B)]
        error = await refusal(bridge, [{"role": "user", "content": parts}], READS)
        assert (error["code"], error["param"]) == ("invalid_file", "messages[0].content[2].file.file_data")


async def test_an_image_edit_refuses_a_document(arena: Arena, bridge: RunningBridge) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await bridge.sdk().images.edit(model="any", prompt="a cat", image=("cat.png", A, "image/png"))
    assert (caught.value.code, caught.value.param) == ("invalid_image", "image[0]")
    assert not uploads(arena)


async def test_a_failed_upload_of_a_document_is_reported_as_one(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("put_forged", None)
    async with await bridge.post(bridge.chat(messages=[user_reading("see", A)], model=READS)) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (502, "image_upload_failed")
    assert "document" in error["message"]
    assert "picture" not in error["message"]
    assert not calls(arena)
