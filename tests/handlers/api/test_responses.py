"""The Responses API as the openai SDK speaks it: asking, storing, continuing, and what is not there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pydantic
import pytest
from documents import input_file, pdf
from internet import playing_the_internet
from openresponses import check_event, check_object
from pictures import data_url, png
from response_events import Read, check_sdk_response, events_of, read_events
from running import RunningBridge, api_key, running_bridge

from bridge.access import keys
from handlers.request.appkeys import RESPONSES
from upstream.arena import JSON_MODEL, Arena, Line, Model, Step, Turn, catalogue, tool_models

SEES_MANY = "gemini-4-pro"
SEARCHES = "gemini-4-pro-grounding"
READS = "reads"
UNKNOWN = "resp_" + "0" * 32

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    reads = Model("6f1c1a52-0000-4000-8000-00000000aaaa", READS, {"text": True}, {"text": True, "file": True}, "acme")
    async with Arena(models=(*catalogue(), *tool_models(JSON_MODEL), reads)) as arena:
        yield arena


async def post(
    bridge: RunningBridge, given: object, *, path: str = "/responses", **body: Any
) -> aiohttp.ClientResponse:
    """POST a request for the plain model."""
    asked = {"model": bridge.model(), "input": given, **body}
    return await bridge.http.post(f"{bridge.base_url}{path}", json=asked, headers=bridge.headers)


async def get(bridge: RunningBridge, path: str, *, key: str = "", method: str = "GET") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key or bridge.key}"}
    async with bridge.http.request(method, f"{bridge.base_url}/responses/{path}", headers=headers) as answer:
        return answer.status, await answer.json()


async def ask(bridge: RunningBridge, given: object, *, stream: bool = False, **body: Any) -> Read:
    """Ask, and check all that comes against the SDK's types and the order of events."""
    async with await post(bridge, given, stream=stream, **body) as answer:
        assert answer.status == 200, await answer.text()
        if stream:
            assert answer.content_type == "text/event-stream"
            return read_events(events_of(await answer.read()))
        response = await answer.json()
    check_sdk_response(response)
    texts = [item["content"][0]["text"] for item in response["output"] if item["type"] == "message"]
    return Read(texts, items=response["output"], end=f"response.{response['status']}", response=response)


async def error_of(answer: aiohttp.ClientResponse) -> tuple[int, str, str | None]:
    async with answer:
        error = (await answer.json())["error"]
        return answer.status, error["code"], error["param"]


# Asking


async def test_the_sdk_is_answered_whole_and_streamed(bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    whole = await sdk.responses.create(model=model, input="/say Hello there.", instructions="Be kind.")
    assert (whole.status, whole.output_text, whole.instructions) == ("completed", "Hello there.", "Be kind.")
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 0
    async with sdk.responses.stream(model=model, input="/say Hello again, there.") as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert deltas == ["Hello ", "again, ", "there."]
    assert final.output_text == "Hello again, there."


@streamed_and_not
async def test_every_event_and_object_is_as_the_specification_has_it(stream: bool, bridge: RunningBridge) -> None:
    asked: dict[str, Any] = {"stream": stream, "model": SEARCHES, "tools": [{"type": "web_search"}]}
    async with await post(bridge, "/think /cite /say Otters are fine.", **asked) as answer:
        if stream:
            for event in events_of(await answer.read()):
                check_event(event)
        else:
            check_object("ResponseResource", await answer.json())


@streamed_and_not
async def test_reasoning_and_citations(stream: bool, bridge: RunningBridge) -> None:
    told = await ask(bridge, "/think /cite /say Otters are fine.", stream=stream)
    reasoning, message = told.items
    assert reasoning["content"][0]["text"].startswith("The user wants something.")
    (part,) = message["content"]
    assert part["text"] == "Otters are fine."
    assert {note["url"] for note in part["annotations"]} == {
        "https://en.wikipedia.org/wiki/Otter",
        "https://example.org/arenas?lang=zh&page=2",
    }
    assert told.response["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


class Event(pydantic.BaseModel):
    name: str
    people: list[str]


async def test_an_answer_is_parsed_into_a_model_of_the_callers(bridge: RunningBridge) -> None:
    sdk = bridge.sdk()
    parsed = await sdk.responses.parse(model=JSON_MODEL, input="When?", text_format=Event)
    assert isinstance(parsed.output_parsed, Event)
    async with sdk.responses.stream(model=JSON_MODEL, input="When then?", text_format=Event) as stream:
        final = await stream.get_final_response()
    assert isinstance(final.output_parsed, Event)
    assert final.text is not None
    assert final.text.format is not None
    assert final.text.format.type == "json_schema"


@streamed_and_not
async def test_a_limit_makes_a_response_incomplete(stream: bool, bridge: RunningBridge) -> None:
    told = await ask(bridge, "/count 100", stream=stream, max_output_tokens=5)
    assert (told.end, told.response["incomplete_details"]) == ("response.incomplete", {"reason": "max_output_tokens"})
    assert (told.response["usage"]["output_tokens"], told.response["max_output_tokens"]) == (5, 5)
    assert told.items[-1]["status"] == "incomplete"


async def test_usage_counts_the_whole_history_and_names_what_was_not_sent_again(bridge: RunningBridge) -> None:
    first = (await ask(bridge, "/say one " + "word " * 100)).response
    second = (await ask(bridge, "/say two", previous_response_id=first["id"])).response
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert second["usage"]["input_tokens_details"]["cached_tokens"] >= first["usage"]["input_tokens"] - 10
    assert first["usage"]["input_tokens_details"]["cached_tokens"] == 0


async def test_headers_say_what_became_of_a_request(bridge: RunningBridge) -> None:
    asked: dict[str, Any] = {"temperature": 0.5, "tools": [{"type": "web_search"}, {"type": "mcp"}]}
    async with await post(bridge, "/say hi", **asked) as answer:
        assert answer.headers["x-bridge-conversation"] == "new; why=first"
        assert answer.headers["x-bridge-evaluation"].startswith("http")
        assert answer.headers["x-bridge-reason"] == "ok"
        assert answer.headers["x-bridge-ignored"] == "temperature, tools.web_search, tools.mcp"
        assert "x-request-id" in answer.headers
    async with await post(bridge, "/say hi", model=SEARCHES, **asked) as answer:
        assert answer.headers["x-bridge-ignored"] == "temperature, tools.mcp"
    async with await post(bridge, "/say hi", stream=True, tools=[{"type": "tool_search"}]) as answer:
        assert answer.headers["x-bridge-ignored"] == "tools.tool_search"


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
async def test_a_key_may_come_in_a_header_of_its_own(header: str, bridge: RunningBridge) -> None:
    body = {"model": bridge.model(), "input": "/say hi"}
    async with bridge.http.post(f"{bridge.base_url}/responses", json=body, headers={header: bridge.key}) as answer:
        assert answer.status == 200
    async with bridge.http.post(f"{bridge.base_url}/responses", json=body) as answer:
        assert (await error_of(answer))[:2] == (401, "invalid_api_key")


async def test_the_api_stands_under_both_prefixes(bridge: RunningBridge) -> None:
    body = {"model": bridge.model(), "input": "/say hi"}
    async with bridge.http.post(f"{bridge.origin}/api/v1/responses", json=body, headers=bridge.headers) as answer:
        assert answer.status == 200


async def test_a_bad_request_is_an_error_of_the_sdks(bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.responses.create(model=model, input="hi", background=True)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "background")
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.responses.create(model="gpt-0", input="hi", stream=True)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert (await error_of(await post(bridge, "  ")))[2] == "input"


# Conversations


async def test_a_stored_response_goes_on_in_the_same_evaluation(arena: Arena, bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    first = await sdk.responses.create(model=model, input="/say one", instructions="Be brief.")
    second = await sdk.responses.with_raw_response.create(
        model=model, input="/say two", previous_response_id=first.id, instructions="Be brief."
    )
    assert second.headers["x-bridge-conversation"].startswith("follow-up")
    third = await sdk.responses.with_raw_response.create(
        model=model, input="/say three", previous_response_id=second.parse().id, instructions="Be brief.", stream=True
    )
    assert third.headers["x-bridge-conversation"].startswith("follow-up")
    async for _ in third.parse():
        pass
    assert [call.kind for call in arena.chats] == ["create", "follow-up", "follow-up"]
    assert len({call.evaluation_id for call in arena.chats}) == 1


async def test_instructions_belong_to_one_response_alone(arena: Arena, bridge: RunningBridge) -> None:
    first = await ask(bridge, "/say one", instructions="Speak French.")
    told = await ask(bridge, "/echo", previous_response_id=first.response["id"])
    assert told.response["instructions"] is None
    assert "French" not in told.text
    assert [call.kind for call in arena.chats] == ["create", "create"]


async def test_a_history_that_is_sent_again_goes_on(arena: Arena, bridge: RunningBridge) -> None:
    first = await ask(bridge, [{"role": "user", "content": "/think /say one"}], store=False, stream=True)
    again = [{"role": "user", "content": "/think /say one"}, *first.items, {"role": "user", "content": "/say two"}]
    async with await post(bridge, again, store=False) as answer:
        assert answer.headers["x-bridge-conversation"].startswith("follow-up")
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]


async def test_references_go_on_too(arena: Arena, bridge: RunningBridge) -> None:
    first = await ask(bridge, "/say one")
    reference = {"type": "item_reference", "id": first.items[0]["id"]}
    given = [{"role": "user", "content": "/say one"}, reference, {"role": "user", "content": "/say two"}]
    second = await ask(bridge, given)
    third = await ask(bridge, "/say three", previous_response_id=second.response["id"])
    assert third.text == "three"
    assert [call.kind for call in arena.chats] == ["create", "follow-up", "follow-up"]


async def test_a_chat_goes_on_in_another_api_and_back(arena: Arena, bridge: RunningBridge) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "/say one"},
    ]
    async with await bridge.post(bridge.chat(messages=messages)) as answer:
        messages.append((await answer.json())["choices"][0]["message"])
    given = [{"role": message["role"], "content": message["content"]} for message in messages[1:]]
    told = await ask(bridge, [*given, {"role": "user", "content": "/say two"}], instructions="Be brief.")
    messages += [{"role": "user", "content": "/say two"}, {"role": "assistant", "content": told.text}]
    async with await bridge.post(
        bridge.chat(messages=[*messages, {"role": "user", "content": "/say three"}])
    ) as answer:
        assert answer.headers["x-bridge-conversation"].startswith("follow-up")
    assert [call.kind for call in arena.chats] == ["create", "follow-up", "follow-up"]
    assert len({call.evaluation_id for call in arena.chats}) == 1


async def test_an_unknown_response_is_not_continued(arena: Arena, bridge: RunningBridge) -> None:
    error = await error_of(await post(bridge, "go on", previous_response_id=UNKNOWN))
    assert error == (400, "previous_response_not_found", "previous_response_id")
    assert not arena.chats


# What is stored


async def test_the_sdk_finds_lists_and_deletes_a_stored_response(bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    made = await sdk.responses.create(model=model, input="/say one", metadata={"a": "b"})
    assert await sdk.responses.retrieve(made.id) == made
    assert made.metadata == {"a": "b"}
    (item,) = [item async for item in sdk.responses.input_items.list(made.id)]
    assert item.type == "message"
    assert item.content[0].text == "/say one"  # type: ignore[union-attr]  # the one text that was sent
    await sdk.responses.delete(made.id)
    for call in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.input_items.list, sdk.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            await call(made.id)
    with pytest.raises(openai.BadRequestError):
        await sdk.responses.create(model=model, input="go on", previous_response_id=made.id)


async def test_a_streamed_response_is_stored_as_it_was_told(bridge: RunningBridge) -> None:
    told = await ask(bridge, "/think /cite /say one two", stream=True)
    assert await get(bridge, told.response["id"]) == (200, told.response)


async def test_input_items_come_in_pages(bridge: RunningBridge) -> None:
    sdk = bridge.sdk()
    given: Any = [{"role": "user", "content": f"{at}"} for at in range(7)]
    made = await sdk.responses.create(model=bridge.model(), input=[*given, {"role": "user", "content": "/say hi"}])
    newest_first = [item async for item in sdk.responses.input_items.list(made.id, limit=3)]
    oldest_first = [item async for item in sdk.responses.input_items.list(made.id, limit=3, order="asc")]
    assert len(newest_first) == 8
    assert newest_first == oldest_first[::-1]
    status, body = await get(bridge, f"{made.id}/input_items?limit=0")
    assert (status, body["error"]["param"]) == (400, "limit")


async def test_what_is_not_to_be_stored_is_not(bridge: RunningBridge) -> None:
    told = await ask(bridge, "/say one", store=False)
    assert told.response["store"] is False
    assert (await get(bridge, told.response["id"]))[0] == 404
    assert len(bridge.app[RESPONSES]) == 0
    error = await error_of(await post(bridge, "go on", previous_response_id=told.response["id"]))
    assert error[1] == "previous_response_not_found"


async def test_another_key_sees_nothing(bridge: RunningBridge) -> None:
    secret, key = api_key()
    await bridge.state.update_keys(lambda kept: keys.add(kept, key))
    made = (await ask(bridge, "/say one")).response
    others = bridge.sdk(api_key=secret)
    for call in (others.responses.retrieve, others.responses.delete, others.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            await call(made["id"])
    with pytest.raises(openai.NotFoundError):
        await others.responses.cancel(made["id"])
    with pytest.raises(openai.BadRequestError) as caught:
        await others.responses.create(model=bridge.model(), input="go on", previous_response_id=made["id"])
    assert caught.value.code == "previous_response_not_found"
    reference: Any = {"type": "item_reference", "id": made["output"][0]["id"]}
    with pytest.raises(openai.BadRequestError) as caught:
        await others.responses.create(model=bridge.model(), input=[reference])
    assert caught.value.code == "item_not_found"
    assert (await get(bridge, made["id"]))[0] == 200


async def test_a_clean_stop_keeps_what_is_stored(arena: Arena, tmp_path: Path) -> None:
    secret, key = api_key()
    session = arena.sign_in()
    async with running_bridge(arena, tmp_path, sessions=(session,)) as bridge:
        await bridge.state.update_keys(lambda kept: keys.add(kept, key))
        sdk = bridge.sdk(api_key=secret)
        first = await sdk.responses.create(model=bridge.model(), input="/say one")
        gone = await sdk.responses.create(model=bridge.model(), input="/say two")
        await sdk.responses.delete(gone.id)
    async with running_bridge(arena, tmp_path, sessions=(session,)) as bridge:
        sdk = bridge.sdk(api_key=secret)
        assert await sdk.responses.retrieve(first.id) == first
        second = await sdk.responses.create(model=bridge.model(), input="/say three", previous_response_id=first.id)
        assert second.previous_response_id == first.id
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(gone.id)


# What is not there


async def test_there_is_no_websocket(bridge: RunningBridge) -> None:
    upgrade = {**bridge.headers, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with bridge.http.get(f"{bridge.base_url}/responses", headers=upgrade) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert (await answer.json())["error"]["message"] == "There is no WebSocket here: send POST."


async def test_nothing_is_compacted_here(bridge: RunningBridge) -> None:
    async with await post(bridge, "hi", path="/responses/compact") as answer:
        assert answer.status == 404
        assert "compact" in (await answer.json())["error"]["message"]


async def test_a_response_that_has_ended_is_not_cancelled(bridge: RunningBridge) -> None:
    made = (await ask(bridge, "/say one")).response
    status, body = await get(bridge, f"{made['id']}/cancel", method="POST")
    assert (status, body["error"]["param"]) == (400, "response_id")
    status, body = await get(bridge, f"{UNKNOWN}/cancel", method="POST")
    assert (status, body["error"]["code"]) == (404, "not_found")


async def test_a_stored_response_is_not_streamed_again(bridge: RunningBridge) -> None:
    made = (await ask(bridge, "/say one")).response
    status, body = await get(bridge, f"{made['id']}?stream=true")
    assert (status, body["error"]["param"]) == (400, "stream")
    assert (await get(bridge, f"{made['id']}?stream=false&include=usage"))[0] == 200


# Counting, and what is too long


async def test_input_is_counted_without_asking(arena: Arena, bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    made = await sdk.responses.create(model=model, input="/say one", instructions="Be brief.")
    asked = len(arena.chats)
    counted = await sdk.responses.input_tokens.count(model=model, input="/say one", instructions="Be brief.")
    assert made.usage is not None
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", made.usage.input_tokens)
    on = await sdk.responses.input_tokens.count(model=model, input="go on", previous_response_id=made.id)
    assert on.input_tokens > 0
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.input_tokens.count(model="gpt-0", input="hi")
    assert len(arena.chats) == asked


LONG = "word " * 25_000


async def test_what_is_too_long_is_said_in_the_words_that_agents_look_for(arena: Arena, bridge: RunningBridge) -> None:
    async with await post(bridge, LONG) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "context_length_exceeded", "input")
        assert "exceeds the context window" in error["message"]
        assert "maximum context length is 28250 tokens" in error["message"]
    assert not arena.chats


async def test_a_stream_fails_for_what_is_too_long_in_openais_way(arena: Arena, bridge: RunningBridge) -> None:
    async with await post(bridge, LONG, stream=True) as answer:
        assert answer.status == 200
        told = read_events(events_of(await answer.read()))
    assert told.end == "response.failed"
    assert told.response["error"]["code"] == "context_length_exceeded"
    assert "exceeds the context window" in told.response["error"]["message"]
    assert not arena.chats
    assert bridge.calls_held == 0


@streamed_and_not
async def test_the_oldest_items_are_dropped_where_that_is_asked_for(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    given = [
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "/say hi"},
    ]
    told = await ask(bridge, given, stream=stream, truncation="auto", instructions="Be brief.")
    assert (told.text, told.response["truncation"]) == ("hi", "auto")
    prompt = str(json.loads(arena.chats[-1].body)["userMessage"]["content"])
    assert "Be brief." in prompt
    assert "word word" not in prompt


# Pictures and files


def seen(arena: Arena) -> list[bytes]:
    """The files that the model was shown with the last turn, as the storage has them."""
    evaluation = arena.evaluations[str(arena.chats[-1].evaluation_id)]
    turn = [message for message in evaluation.messages if message.role == "user"][-1]
    stored = {found.sha256: found.data for found in arena.storage.objects.values()}
    return [stored[each["sha256"]] for each in turn.attachments]


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": "/say seen"}]}]


def picture(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, "detail": "auto"}


@pytest.mark.parametrize("size", [None, 300_000], ids=["small", "large"])
async def test_pictures_are_shown_stored_and_listed(size: int | None, arena: Arena, bridge: RunningBridge) -> None:
    data = png(0xA, size)
    told = await ask(bridge, user(picture(data_url(data))), model=SEES_MANY)
    assert (told.text, seen(arena)) == ("seen", [data])
    id_ = told.response["id"]
    _, items = await get(bridge, f"{id_}/input_items")
    assert items["data"][0]["content"][0]["image_url"] == data_url(data)
    async with await post(bridge, "/say on", model=SEES_MANY, previous_response_id=id_) as answer:
        assert answer.headers["x-bridge-conversation"].startswith("follow-up")
    await ask(bridge, "/say elsewhere", model=SEES_MANY, previous_response_id=id_, instructions="New.")
    assert seen(arena) == [data]  # the whole history in an evaluation of its own


async def test_a_models_pictures_are_a_text(bridge: RunningBridge) -> None:
    told = await ask(bridge, "/draw", stream=True)
    assert told.text.startswith("![image](")


async def test_a_pdf_goes_where_the_model_reads_pdfs(arena: Arena, bridge: RunningBridge) -> None:
    await ask(bridge, user(input_file(pdf(3))), model=READS)
    assert seen(arena) == [pdf(3)]
    error = await error_of(await post(bridge, user(input_file(pdf(3)))))
    assert error == (400, "unsupported_parameter", "input[0].content[0]")


async def test_a_file_of_text_is_text(arena: Arena, bridge: RunningBridge) -> None:
    part = {"type": "input_file", "filename": "notes.md", "file_data": data_url(b"# Otters", "text/markdown")}
    await ask(bridge, user(part))
    assert json.loads(arena.chats[-1].body)["userMessage"]["content"] == "notes.md\n# Otters\n/say seen"


async def test_linked_pictures_are_fetched_again_for_what_continues(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        playing_the_internet(monkeypatch) as internet,
        running_bridge(arena, tmp_path, {"images": {"fetch_urls": True}}) as bridge,
    ):
        url = "http://public.example/cat"
        told = await ask(bridge, user(picture(url)), model=SEES_MANY)
        (cat,) = seen(arena)
        id_ = told.response["id"]
        await ask(bridge, "/say on", model=SEES_MANY, previous_response_id=id_, instructions="New.")
        assert seen(arena) == [cat]
        assert internet.served == ["/cat", "/cat"]


# Waiting


async def test_a_sign_of_life_comes_before_everything(arena: Arena, tmp_path: Path) -> None:
    say = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        await say.wait()
        yield Line("a0", "hello")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    async with (
        running_bridge(arena, tmp_path, {"stream": {"keepalive_seconds": 0.1}}) as bridge,
        await post(bridge, "hi", stream=True) as answer,
    ):
        assert await answer.content.readuntil(b"\n\n") == b": keep-alive\n\n"
        say.set()
        told = read_events(events_of(await answer.read()))
    assert (told.text, told.end) == ("hello", "response.completed")
