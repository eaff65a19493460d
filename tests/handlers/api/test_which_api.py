"""The statistics, the log line and Activity say which API a request used, whether answered or refused."""

from __future__ import annotations

import pytest
from kept_requests import kept
from request_log import RequestLog
from running import RunningBridge

from handlers.request.appkeys import STATS

HI = [{"role": "user", "content": "hi"}]
#: The path of each API, and a request's fields besides the model.
APIS: dict[str, tuple[str, dict[str, object]]] = {
    "chat": ("chat/completions", {"messages": HI}),
    "responses": ("responses", {"input": "hi"}),
    "messages": ("messages", {"messages": HI, "max_tokens": 100}),
    "completions": ("completions", {"prompt": "hi"}),
    "images": ("images/generations", {"prompt": "a fox"}),
}


@pytest.mark.parametrize("api", APIS)
async def test_an_answer_is_counted_under_its_api(api: str, bridge: RunningBridge, request_log: RequestLog) -> None:
    path, asked = APIS[api]
    model = bridge.model(output="image" if api == "images" else "text")
    url, body = f"{bridge.origin}/v1/{path}", {"model": model, **asked}
    async with bridge.http.post(url, json=body, headers=bridge.headers) as answer:
        assert answer.status == 200
    assert (await request_log.line())["api"] == api
    assert (await kept(bridge))[0].api == api
    counted = bridge.app[STATS].stats.apis
    assert {name: (usage.requests, usage.errors) for name, usage in counted.items()} == {api: (1, 0)}
    assert counted[api].completion_tokens > 0


@pytest.mark.parametrize("api", APIS)
async def test_a_refusal_is_counted_under_its_api(api: str, bridge: RunningBridge, request_log: RequestLog) -> None:
    path, asked = APIS[api]
    url, body = f"{bridge.origin}/v1/{path}", {"model": "none", **asked}
    for headers, status in (({}, 401), (bridge.headers, 404)):
        async with bridge.http.post(url, json=body, headers=headers) as answer:
            assert answer.status == status
        assert (await request_log.line())["api"] == api
    assert (bridge.app[STATS].stats.apis[api].requests, bridge.app[STATS].stats.apis[api].errors) == (2, 2)


async def test_requests_that_call_no_model_are_counted_under_no_api(
    bridge: RunningBridge, request_log: RequestLog
) -> None:
    for path in ("/v1/models", "/v1/responses/resp_1", "/health", "/nowhere"):
        async with bridge.http.get(bridge.origin + path, headers=bridge.headers):
            assert "api" not in await request_log.line()
    assert bridge.app[STATS].stats.apis == {}
