"""Misspelled paths: which ones are served, and what a 404 says about the rest."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from request_log import RequestLog
from running import RunningBridge
from yarl import URL

from handlers.request.paths import hint, served_path


async def status_of(bridge: RunningBridge, target: str, body: str | None = None) -> int:
    """Request a target exactly as it is spelled; client libraries would normalize it."""
    url = URL(bridge.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    with closing(writer):
        head = (
            f"{'GET' if body is None else 'POST'} {target} HTTP/1.1",
            f"Host: {url.authority}",
            f"Authorization: Bearer {bridge.key}",
            f"Content-Length: {len(body or '')}",
            "Connection: close",
        )
        writer.write("\r\n".join((*head, "", body or "")).encode())
        return int((await reader.read()).split()[1])


CHATS = [
    "/v1//chat/completions",
    "/v1/chat/completions/",
    "//v1/chat/completions",
    "/v1/chat//completions//",
    "/v1/v1/chat/completions",
    "/api/v1//chat/completions/",
    "/api/v1/v1/chat/completions",
    "/api//v1/chat/completions",
    "/v1/v1/v1//chat/completions///?api-version=2024-06-01",
]


@pytest.mark.parametrize("path", CHATS)
async def test_a_chat_at_a_misspelled_path_is_served(
    path: str, bridge: RunningBridge, request_log: RequestLog, caplog: pytest.LogCaptureFixture
) -> None:
    assert await status_of(bridge, path, json.dumps(bridge.chat("/say hi"))) == 200
    await request_log.line()
    canonical = "/api/v1/chat/completions" if path.startswith("/api") else "/v1/chat/completions"
    assert f"POST {canonical}" in caplog.messages


LISTS = [
    "/v1/v1/models",
    "/v1/models/",
    "/v1//models",
    "//v1//models//",
    "/api/v1/v1/models",
    "/api/v1//models",
    "/livez/",
]


@pytest.mark.parametrize("path", LISTS)
async def test_a_get_request_for_a_misspelled_path_is_served(path: str, bridge: RunningBridge) -> None:
    assert await status_of(bridge, path) == 200


@pytest.mark.parametrize("path", ["/v1/models/{}/", "/v1//models//{}", "/v1/v1/models/{}", "/api/v1/models/{}//"])
async def test_a_model_at_a_misspelled_path_is_served(path: str, bridge: RunningBridge) -> None:
    assert await status_of(bridge, path.format(bridge.model())) == 200


async def test_a_misspelled_path_still_requires_a_key_and_the_right_method(bridge: RunningBridge) -> None:
    for path in ("/v1/models/", "/v1/v1/models"):
        assert (await bridge.http.get(bridge.origin + path)).status == 401
        answer = await bridge.http.put(bridge.origin + path)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("path", ["//dashboard", "/dashboard/keys/", "/%64ashboard//keys", "/v1/../dashboard/"])
async def test_a_misspelled_path_of_the_dashboard_is_404(path: str, bridge: RunningBridge) -> None:
    assert await status_of(bridge, path) == 404


NEAR = {
    ("POST", "/v1"): "Did you mean POST /v1/chat/completions?",
    ("POST", "/v1/"): "Did you mean POST /v1/chat/completions?",
    ("POST", "/chat/completions"): "The API is under /v1. Did you mean POST /v1/chat/completions?",
    ("POST", "/v1/chat/completion"): "Did you mean POST /v1/chat/completions?",
    ("POST", "/v1/chat"): "Did you mean POST /v1/chat/completions?",
    ("POST", "/V1/Chat/Completions"): "Did you mean POST /v1/chat/completions?",
    ("POST", "/v2/chat/completions"): "The API is under /v1. Did you mean POST /v1/chat/completions?",
    ("POST", "/v1/openai/deployments/m/chat/completions"): "Did you mean POST /v1/chat/completions?",
    ("GET", "/api/models"): "The API is under /v1. Did you mean GET /v1/models?",
    ("GET", "/v1/model"): "Did you mean GET /v1/models?",
    ("POST", "/v1/images/generation"): "Did you mean POST /v1/images/generations?",
    ("POST", "/api/v1/image/edits"): "Did you mean POST /api/v1/images/edits?",
}


@pytest.mark.parametrize(("method", "path"), NEAR)
async def test_a_404_names_the_nearest_path(method: str, path: str, bridge: RunningBridge) -> None:
    answer = await bridge.http.request(method, bridge.origin + path)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (404, "not_found")
    assert error["message"] == f"There is nothing at {method} {path}. {NEAR[method, path]}"


NEVER_THERE = {
    "/v1/embeddings": "LMArena has no embeddings",
    "/v1/moderations": "LMArena has no moderation model",
    "/api/v1/audio/speech": "LMArena has no speech",
    "/v1/audio/transcriptions": "no transcription",
    "/v1/files": "The bridge keeps no files",
    "/v1//batches/": "The bridge has no batches",
    "/v1/assistants": "The bridge has no Assistants API",
    "/v1/threads/t_1/messages": "The bridge has no Assistants API",
    "/v1/fine_tuning/jobs": "LMArena has no fine-tuning",
    "/embeddings": "LMArena has no embeddings",
    "/openai/deployments/m/embeddings": "LMArena has no embeddings",
}


@pytest.mark.parametrize("path", NEVER_THERE)
async def test_a_404_for_an_api_that_lmarena_lacks_says_so(path: str, bridge: RunningBridge) -> None:
    answer = await bridge.http.post(bridge.origin + path, headers=bridge.headers)
    error = (await answer.json())["error"]
    assert answer.status == 404
    assert NEVER_THERE[path] in error["message"]


@pytest.mark.parametrize("path", ["/favicon.ico", "/robots.txt", "/wp-login.php", "/v1/zzz"])
def test_a_404_suggests_no_path_when_none_is_similar(path: str) -> None:
    assert "Did you mean" not in hint("GET", path, (("POST", "/chat/completions"), ("GET", "/models")))


@a_share(of=5)
@given(st.lists(st.sampled_from(["v1", "api", "", "models", "chat", "..", "%2F"])))
def test_a_corrected_path_needs_no_further_correction(segments: list[str]) -> None:
    path = served_path("/" + "/".join(segments))
    assert served_path(path) == path
    assert path.startswith("/")
    assert "//" not in path


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/api/v1", "/V1"])
async def test_a_request_for_the_base_url_explains_what_it_is(path: str, bridge: RunningBridge) -> None:
    async with bridge.http.get(f"{bridge.origin}{path}") as answer:
        assert answer.status == 404
        message = (await answer.json())["error"]["message"]
    prefix = path.lower().rstrip("/")
    assert message.startswith(f"{prefix} is the API's base URL, not a call: give it to your client as it is.")
    assert f"POST {prefix}/chat/completions" in message
    assert f"GET {prefix}/models" in message
    assert "nothing" not in message
