"""Calls of the Responses API, whose answers are checked against the SDK's types and the order of events."""

from __future__ import annotations

from typing import Any

import aiohttp
from response_events import Read, check_sdk_response, events_of, read_events
from running import RunningBridge


async def post(
    bridge: RunningBridge, given: object, *, path: str = "/responses", **body: Any
) -> aiohttp.ClientResponse:
    """POST a request for the default model."""
    asked = {"model": bridge.model(), "input": given, **body}
    return await bridge.http.post(f"{bridge.base_url}{path}", json=asked, headers=bridge.headers)


async def get(bridge: RunningBridge, path: str, *, method: str = "GET") -> tuple[int, Any]:
    async with bridge.http.request(method, f"{bridge.base_url}/responses/{path}", headers=bridge.headers) as answer:
        return answer.status, await answer.json()


async def ask(bridge: RunningBridge, given: object, *, stream: bool = False, **body: Any) -> Read:
    """Send a request, and check the answer against the SDK's types and the order of events."""
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
