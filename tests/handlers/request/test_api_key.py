"""Where a request may carry its key: `Authorization` with or without its scheme, `x-api-key`, `api-key`."""

from __future__ import annotations

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from running import RunningBridge

from bridge.dialects.api_key import sent_key

KEY = "sk-lmab-0123"

FOUND: dict[str, list[tuple[str, str]]] = {
    "the word and the key": [("Authorization", f"Bearer {KEY}")],
    "the word in another case": [("authorization", f"bEARER  {KEY} ")],
    "no word": [("Authorization", KEY)],
    "no word, blanks around it": [("Authorization", f"  {KEY} ")],
    "Anthropic's header": [("x-api-key", KEY)],
    "Anthropic's header, in capitals": [("X-API-KEY", KEY)],
    "Azure's header": [("api-key", KEY)],
    "Azure's header, blanks around it": [("Api-Key", f" {KEY} ")],
    "a proxy's own scheme beside it": [("Authorization", "Basic dTpw"), ("x-api-key", KEY)],
    "an empty bearer beside it": [("Authorization", "Bearer "), ("api-key", KEY)],
    "the first of three": [("api-key", "c"), ("x-api-key", "b"), ("Authorization", f"Bearer {KEY}")],
    "the second of three": [("api-key", "c"), ("x-api-key", KEY), ("Authorization", "Negotiate YII")],
}

NOT_FOUND: dict[str, list[tuple[str, str]]] = {
    "nothing": [],
    "empty headers": [("Authorization", ""), ("x-api-key", ""), ("api-key", " ")],
    "the word alone": [("Authorization", "Bearer")],
    "another scheme": [("Authorization", f"Basic {KEY}")],
    "a key and something behind it": [("Authorization", f"Bearer {KEY} x")],
    "two lines of Authorization": [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
    "two lines of Authorization, and another": [("Authorization", KEY), ("Authorization", KEY), ("x-api-key", KEY)],
    "two lines of x-api-key": [("x-api-key", KEY), ("X-Api-Key", KEY)],
    "two lines of api-key": [("api-key", KEY), ("api-key", "other")],
}


@pytest.mark.parametrize("headers", FOUND.values(), ids=FOUND)
def test_a_key_is_found_in_each_supported_header(headers: list[tuple[str, str]]) -> None:
    assert sent_key(CIMultiDict(headers)) == KEY


@pytest.mark.parametrize("headers", NOT_FOUND.values(), ids=NOT_FOUND)
def test_no_key_is_found_in_missing_malformed_or_repeated_headers(headers: list[tuple[str, str]]) -> None:
    assert sent_key(CIMultiDict(headers)) is None


@a_share(of=5)
@given(st.lists(st.tuples(st.sampled_from(["Authorization", "x-api-key", "api-key"]), st.text())))
def test_a_key_found_in_arbitrary_headers_has_no_surrounding_blanks(headers: list[tuple[str, str]]) -> None:
    key = sent_key(CIMultiDict(headers))
    assert key is None or (key == key.strip() != "")


SENT = {
    "x-api-key": {"x-api-key": "{key}"},
    "api-key": {"api-key": "{key}"},
    "no word": {"Authorization": "{key}"},
    "a proxy's login": {"Authorization": "Basic dTpw", "x-api-key": "{key}"},
    "an empty bearer": {"Authorization": "Bearer", "api-key": "{key}"},
    "bearer": {"Authorization": "Bearer {key}"},
}


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_chats_and_the_list_of_models_accept_a_key_in_each_header(
    sent: dict[str, str], bridge: RunningBridge
) -> None:
    headers = {name: value.format(key=bridge.key) for name, value in sent.items()}
    url = f"{bridge.base_url}/chat/completions"
    assert (await bridge.http.post(url, json=bridge.chat("/say hi"), headers=headers)).status == 200
    assert (await bridge.http.get(f"{bridge.base_url}/models", headers=headers)).status == 200


async def test_a_wrong_key_is_refused_in_every_header(bridge: RunningBridge, caplog: pytest.LogCaptureFixture) -> None:
    secret = "sk-lmab-" + "a" * 32
    for headers in ({"x-api-key": secret}, {"api-key": secret}, {"Authorization": secret}):
        answer = await bridge.http.get(f"{bridge.base_url}/models", headers=headers)
        assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")
    assert secret not in caplog.text


async def test_a_key_in_the_url_is_not_accepted(bridge: RunningBridge) -> None:
    for name in ("key", "api-key", "api_key", "x-api-key"):
        answer = await bridge.http.get(f"{bridge.base_url}/models", params={name: bridge.key})
        assert answer.status == 401
