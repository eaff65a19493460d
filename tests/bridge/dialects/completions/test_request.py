"""How a request of the older Completions API is read, and which fields are refused by name."""

from __future__ import annotations

from typing import Any, get_type_hints

import orjson
import pytest
from openai.types import completion_create_params

from bridge.dialects.completions.request import MAX_CHOICES, CompletionFields, read_request
from bridge.dialects.fields import read_object
from bridge.errors import ApiError

BASE: dict[str, Any] = {"model": "m", "prompt": "Once"}
IGNORED: dict[str, object] = {
    "temperature": 0.5,
    "top_p": 1,
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "seed": 1,
    "logit_bias": {"1": 1},
    "user": "a",
}
READ = {"model", "prompt", "suffix", "stream", "stop", "max_tokens", "n", "echo", "stream_options"}
REFUSED = {"logprobs": 1, "best_of": 2}


def read(**body: object) -> CompletionFields:
    return read_request(read_object(orjson.dumps({**BASE, **body})))


def prompts(read: CompletionFields) -> list[str]:
    return [message.text for chat in read.chats for message in chat.messages]


def test_a_prompt_becomes_a_single_user_message() -> None:
    found = read(stream=True, stop=["END"], max_tokens=16)
    (chat,) = found.chats
    assert [(message.role, message.text) for message in chat.messages] == [("user", "Once")]
    assert (chat.model, chat.stream, chat.stops, chat.max_tokens, chat.choices) == ("m", True, ("END",), 16, 1)
    assert (found.echoed, found.include_usage) == (("",), False)


def test_each_prompt_is_sent_once_per_choice() -> None:
    found = read(prompt=["a", "b"], n=2, best_of=2, echo=True)
    assert prompts(found) == ["a", "a", "b", "b"]
    assert found.echoed == ("a", "a", "b", "b")
    assert {chat.choices for chat in found.chats} == {4}


def test_a_suffix_is_described_in_the_prompt() -> None:
    (shown,) = prompts(read(prompt="def f():", suffix="return x"))
    assert "<before>\ndef f():\n</before>\n<after>\nreturn x\n</after>" in shown
    assert prompts(read(suffix="")) == ["Once"]
    assert len(prompts(read(prompt="", suffix="return x"))) == 1


def test_stream_options_can_request_usage() -> None:
    assert read(stream=True, stream_options={"include_usage": True}).include_usage


@pytest.mark.parametrize(("name", "value"), IGNORED.items(), ids=IGNORED)
def test_fields_without_effect_are_reported_as_ignored(name: str, value: object) -> None:
    assert read(**{name: value}).chats[0].ignored == (name,)
    assert read(**{name: None}) == read()


def test_every_field_of_the_sdk_is_read_ignored_or_refused() -> None:
    names = set(get_type_hints(completion_create_params.CompletionCreateParamsStreaming))
    assert names == READ | IGNORED.keys() | REFUSED.keys()


REFUSALS: dict[str, tuple[dict[str, object], str]] = {
    "no model": ({"model": None}, "model"),
    "no prompt": ({"prompt": None}, "prompt"),
    "no prompts": ({"prompt": []}, "prompt"),
    "a blank prompt": ({"prompt": " \n"}, "prompt"),
    "a blank prompt among others": ({"prompt": ["a", ""]}, "prompt"),
    "token ids": ({"prompt": [1, 2]}, "prompt"),
    "lists of token ids": ({"prompt": [[1], [2]]}, "prompt"),
    "a number": ({"prompt": 1}, "prompt"),
    "logprobs": ({"logprobs": 5}, "logprobs"),
    "more than are given back": ({"best_of": 3, "n": 2}, "best_of"),
    "too many choices": ({"n": MAX_CHOICES + 1}, "n"),
    "too many prompts": ({"prompt": ["a"] * (MAX_CHOICES + 1)}, "prompt"),
    "too many of both": ({"prompt": ["a"] * 3, "n": 3}, "n"),
    "n 0": ({"n": 0}, "n"),
    "a suffix, a number": ({"suffix": 1}, "suffix"),
}


@pytest.mark.parametrize(("body", "param"), REFUSALS.values(), ids=REFUSALS)
def test_the_error_for_an_invalid_field_names_it(body: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as raised:
        read(**body)
    assert (raised.value.status, raised.value.param) == (400, param)
