"""Stored responses of the Responses API: continued, shown, listed and deleted, but only with their own key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from response_calls import ask, error_of, get, post
from running import RunningBridge, api_key, running_bridge

from bridge.access import keys
from handlers.request.appkeys import STORED_RESPONSES
from upstream.arena import Arena

UNKNOWN = "resp_" + "0" * 32


# Conversations


async def test_a_stored_response_is_continued_in_the_same_evaluation(arena: Arena, bridge: RunningBridge) -> None:
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


async def test_instructions_are_not_carried_over_to_the_next_response(arena: Arena, bridge: RunningBridge) -> None:
    first = await ask(bridge, "/say one", instructions="Speak French.")
    told = await ask(bridge, "/echo", previous_response_id=first.response["id"])
    assert told.response["instructions"] is None
    assert "French" not in told.text
    assert [call.kind for call in arena.chats] == ["create", "create"]


async def test_a_history_that_is_sent_again_continues_the_evaluation(arena: Arena, bridge: RunningBridge) -> None:
    first = await ask(bridge, [{"role": "user", "content": "/think /say one"}], store=False, stream=True)
    again = [{"role": "user", "content": "/think /say one"}, *first.items, {"role": "user", "content": "/say two"}]
    async with await post(bridge, again, store=False) as answer:
        assert answer.headers["x-bridge-conversation"].startswith("follow-up")
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]


async def test_a_history_with_item_references_continues_the_evaluation(arena: Arena, bridge: RunningBridge) -> None:
    first = await ask(bridge, "/say one")
    reference = {"type": "item_reference", "id": first.items[0]["id"]}
    given = [{"role": "user", "content": "/say one"}, reference, {"role": "user", "content": "/say two"}]
    second = await ask(bridge, given)
    third = await ask(bridge, "/say three", previous_response_id=second.response["id"])
    assert third.text == "three"
    assert [call.kind for call in arena.chats] == ["create", "follow-up", "follow-up"]


async def test_a_chat_is_continued_through_responses_and_back(arena: Arena, bridge: RunningBridge) -> None:
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


async def test_a_streamed_response_is_stored_as_it_was_sent(bridge: RunningBridge) -> None:
    told = await ask(bridge, "/think /cite /say one two", stream=True)
    assert await get(bridge, told.response["id"]) == (200, told.response)


async def test_input_items_are_listed_in_pages(bridge: RunningBridge) -> None:
    sdk = bridge.sdk()
    given: Any = [{"role": "user", "content": f"{at}"} for at in range(7)]
    made = await sdk.responses.create(model=bridge.model(), input=[*given, {"role": "user", "content": "/say hi"}])
    newest_first = [item async for item in sdk.responses.input_items.list(made.id, limit=3)]
    oldest_first = [item async for item in sdk.responses.input_items.list(made.id, limit=3, order="asc")]
    assert len(newest_first) == 8
    assert newest_first == oldest_first[::-1]
    status, body = await get(bridge, f"{made.id}/input_items?limit=0")
    assert (status, body["error"]["param"]) == (400, "limit")


async def test_a_response_with_store_false_is_not_stored(bridge: RunningBridge) -> None:
    told = await ask(bridge, "/say one", store=False)
    assert told.response["store"] is False
    assert (await get(bridge, told.response["id"]))[0] == 404
    assert len(bridge.app[STORED_RESPONSES]) == 0
    error = await error_of(await post(bridge, "go on", previous_response_id=told.response["id"]))
    assert error[1] == "previous_response_not_found"


async def test_stored_responses_are_hidden_from_other_keys(bridge: RunningBridge) -> None:
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


async def test_stored_responses_survive_a_clean_restart(arena: Arena, tmp_path: Path) -> None:
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
