"""How a Messages request is read, which fields are named as ignored, and which are refused by name."""

from __future__ import annotations

from typing import Any, get_type_hints

import orjson
import pybase64
import pytest
from anthropic.types import message_create_params
from anthropic.types.beta import message_create_params as beta_message_create_params
from documents import pdf
from pictures import png

from bridge.answering.chat import ChatRequest
from bridge.answering.messages import Message, ToolCall
from bridge.dialects.data_urls import read_without_data_urls
from bridge.dialects.fields import Fields, read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.messages.blocks import links
from bridge.dialects.messages.request import MessagesFields, count_request, read_request
from bridge.errors import ApiError
from upstream.protocol.files import File

RULES = FileRules(max_bytes=10 * 1024 * 1024, max_per_request=5)
BASE: dict[str, Any] = {"model": "claude", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
HI = Message("user", "hi")
PICTURE = File.from_bytes(png(1))
PDF = File.from_bytes(pdf())
WEATHER = {"name": "get_weather", "description": "Say it.", "input_schema": {"type": "object"}}


def base64(data: bytes) -> str:
    return pybase64.b64encode(data).decode()


def image(data: bytes = PICTURE.data, media_type: str = "image/png") -> dict[str, object]:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": base64(data)}}


def text(of: str) -> dict[str, object]:
    return {"type": "text", "text": of}


def document(source: object, **more: object) -> dict[str, object]:
    return {"type": "document", "source": source, **more}


def result(content: object = None, **more: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}


def use(**more: object) -> dict[str, object]:
    return {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}, **more}


def said(role: str, *blocks: object) -> dict[str, object]:
    return {"role": role, "content": list(blocks)}


def fields_of(request: object) -> Fields:
    return read_object(orjson.dumps(request))


def read(**body: object) -> MessagesFields:
    return read_request(fields_of({**BASE, **body}), FileReader(RULES, {}))


def chat_of(**body: object) -> ChatRequest:
    return read(**body).chat


def messages_of(*messages: object) -> tuple[Message, ...]:
    return chat_of(messages=list(messages)).messages


CALL = ToolCall("toolu_1", "get_weather", '{"city":"Paris"}')

MESSAGES: dict[str, tuple[list[object], tuple[Message, ...]]] = {
    "a string": ([{"role": "user", "content": "hi"}], (HI,)),
    "a block": ([said("user", text("hi"))], (HI,)),
    "a block with what has no effect": (
        [said("user", text("hi") | {"cache_control": {"type": "ephemeral"}, "citations": None})],
        (HI,),
    ),
    "a user's blocks are lines": ([said("user", text("a"), text("b"))], (Message("user", "a\nb"),)),
    "an assistant's blocks are one text": (
        [said("assistant", text("a"), {"type": "thinking", "thinking": "hm", "signature": "s"}, text("b"))],
        (Message("assistant", "ab"),),
    ),
    "a system message keeps its place": (
        [{"role": "user", "content": "hi"}, {"role": "system", "content": "Be brief."}],
        (HI, Message("system", "Be brief.")),
    ),
    "a picture": ([said("user", text("hi"), image())], (Message("user", "hi", files=(PICTURE,)),)),
    "a picture under a wrong label": (
        [said("user", image(media_type="image/webp"))],
        (Message("user", "", files=(PICTURE,)),),
    ),
    "a PDF": (
        [said("user", document({"type": "base64", "media_type": "application/pdf", "data": base64(PDF.data)}))],
        (Message("user", "", files=(PDF,)),),
    ),
    "a document with text": (
        [said("user", document({"type": "text", "media_type": "text/plain", "data": "Once."}, title="T", context="C"))],
        (Message("user", "T\nC\nOnce."),),
    ),
    "a document with blocks": (
        [said("user", document({"type": "content", "content": [text("a"), text("b")]}))],
        (Message("user", "a\nb"),),
    ),
    "a document with a string": (
        [said("user", document({"type": "content", "content": "a"}))],
        (Message("user", "a"),),
    ),
    "a search result": (
        [said("user", {"type": "search_result", "title": "T", "source": "https://a.example", "content": [text("a")]})],
        (Message("user", "T\nhttps://a.example\na"),),
    ),
    "a call behind a text": (
        [said("assistant", text("I look."), use())],
        (Message("assistant", "I look.", tool_calls=(CALL,)),),
    ),
    "a result, a string": ([said("user", result("Sunny."))], (Message("tool", "Sunny.", tool_call_id="toolu_1"),)),
    "a result, nothing": ([said("user", result())], (Message("tool", "", tool_call_id="toolu_1"),)),
    "a result, blocks": (
        [said("user", result([text("a"), image(), text("b")]))],
        (Message("tool", "a\nb", tool_call_id="toolu_1", files=(PICTURE,)),),
    ),
    "a result, the names of tools": (
        [said("user", result([{"type": "tool_reference", "tool_name": name} for name in ("look", "now")]))],
        (Message("tool", "look\nnow", tool_call_id="toolu_1"),),
    ),
    "a result that is an error": (
        [said("user", result("No such city.", is_error=True))],
        (Message("tool", "The tool failed.\nNo such city.", tool_call_id="toolu_1"),),
    ),
    "results, then a text": (
        [said("user", result("a"), result("b", tool_use_id="toolu_2"), text("Go on."))],
        (
            Message("tool", "a", tool_call_id="toolu_1"),
            Message("tool", "b", tool_call_id="toolu_2"),
            Message("user", "Go on."),
        ),
    ),
    "thoughts alone are nothing": (
        [said("assistant", {"type": "redacted_thinking", "data": "x"}), {"role": "user", "content": "hi"}],
        (HI,),
    ),
}


@pytest.mark.parametrize(("sent", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_messages(sent: list[object], expected: tuple[Message, ...]) -> None:
    assert messages_of(*sent) == expected


def test_the_system_prompt_becomes_leading_system_messages() -> None:
    assert chat_of(system="Be brief.").messages == (Message("system", "Be brief."), HI)
    blocks = [text("One.") | {"cache_control": {"type": "ephemeral"}}, text("Two.")]
    assert chat_of(system=blocks).messages == (Message("system", "One."), Message("system", "Two."), HI)
    assert chat_of(system="").messages == chat_of(system=[text("")]).messages == (HI,)


BILLING = "x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch=36ee5;"


@pytest.mark.parametrize(
    "system",
    [
        f"{BILLING}\nBe brief.",
        [text(BILLING), text("Be brief.")],
        [text(f"{BILLING}\n"), text("Be brief.")],
        [text(f"{BILLING}\nBe brief.")],
    ],
)
def test_the_billing_header_line_is_removed_from_the_system_prompt(system: object) -> None:
    """The line changes with each request; if it counted, no conversation would be recognised again."""
    chat = chat_of(system=system)
    assert chat.messages == (Message("system", "Be brief."), HI)
    assert chat.ignored == ("system.x-anthropic-billing-header",)


@pytest.mark.parametrize("system", [f"Be brief.\n{BILLING}", "x-anthropic-billing-header", f" {BILLING}"])
def test_text_that_only_resembles_the_billing_header_stays_in_the_system_prompt(system: str) -> None:
    chat = chat_of(system=system)
    assert chat.messages == (Message("system", system), HI)
    assert chat.ignored == ()


def test_max_tokens_stop_sequences_and_stream_are_read() -> None:
    chat = chat_of(max_tokens=64_000, stop_sequences=["END", "", "END"], stream=True)
    assert (chat.max_tokens, chat.stops, chat.stream) == (64_000, ("END",), True)


THINKING = {
    "nothing": ({}, False),
    "enabled": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
    "adaptive": ({"thinking": {"type": "adaptive"}}, True),
    "summarized": ({"thinking": {"type": "adaptive", "display": "summarized"}}, True),
    "omitted": ({"thinking": {"type": "adaptive", "display": "omitted"}}, False),
    "disabled": ({"thinking": {"type": "disabled"}}, False),
    "between tools": ({"thinking": {"type": "between_tools"}}, False),
}


@pytest.mark.parametrize(("body", "shown"), THINKING.values(), ids=THINKING)
def test_thinking_is_shown_only_if_enabled_and_not_omitted(body: dict[str, object], shown: bool) -> None:
    assert read(**body).thinking == shown


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    "body", [{"output_config": {"format": None}}, {"output_format": None}, {"output_config": None}]
)
def test_a_null_output_format_requests_no_json(body: dict[str, object]) -> None:
    assert chat_of(**body).json_format is None


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_an_output_format_is_read_from_both_fields(place: str) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    chat = chat_of(**{place: {"format": form, "effort": "high"} if place == "output_config" else form})
    assert chat.json_format is not None
    assert chat.json_format.schema == SCHEMA
    assert chat.ignored == (("output_config.effort",) if place == "output_config" else ())


IGNORED: dict[str, object] = {
    "temperature": 0.5,
    "top_p": 1,
    "top_k": 5,
    "metadata": {"user_id": "a"},
    "service_tier": "auto",
    "speed": "fast",
    "inference_geo": "us",
    "cache_control": {"type": "ephemeral"},
    "context_management": {"edits": []},
    "diagnostics": {"previous_message_id": None},
    "fallbacks": [{"model": "claude"}],
    "fallback_credit_token": "a",
    "user_profile_id": "a",
    "billing_policy": {"type": "billing_policy"},
    "betas": ["a"],
}
REFUSED = {"thread": {"id": "a"}, "container": "a", "mcp_servers": [{}], "compaction": {}}
READ = {"model", "max_tokens", "messages", "system", "stream", "stop_sequences", "thinking", "tools", "tool_choice"}
#: Fields that the SDK sends as headers, which have no effect.
HEADERS = {"workspace_id"}


@pytest.mark.parametrize(("name", "value"), IGNORED.items(), ids=IGNORED)
def test_fields_without_effect_are_reported_as_ignored(name: str, value: object) -> None:
    assert chat_of(**{name: value}) == chat_of()._replace(ignored=(name,))
    assert chat_of(**{name: None}) == chat_of()


@pytest.mark.parametrize(("name", "value"), REFUSED.items(), ids=REFUSED)
def test_unsupported_fields_are_refused_by_name(name: str, value: object) -> None:
    error = refused(**{name: value})
    assert (error.status, error.param) == (400, name)
    assert chat_of(**{name: None}) == chat_of()


@pytest.mark.parametrize("params", [message_create_params, beta_message_create_params], ids=["stable", "beta"])
def test_every_field_of_the_sdk_is_read_ignored_or_refused(params: Any) -> None:
    names = set(get_type_hints(params.MessageCreateParamsStreaming))
    assert names <= READ | IGNORED.keys() | REFUSED.keys() | HEADERS | {"output_config"}


def refused(**body: object) -> ApiError:
    with pytest.raises(ApiError) as raised:
        read(**body)
    return raised.value


def one(block: object, role: str = "user") -> dict[str, object]:
    return {"messages": [said(role, block)]}


REFUSALS: dict[str, tuple[dict[str, object], str]] = {
    "no model": ({"model": None}, "model"),
    "no max_tokens": ({"max_tokens": None}, "max_tokens"),
    "max_tokens 0": ({"max_tokens": 0}, "max_tokens"),
    "no messages": ({"messages": None}, "messages"),
    "empty messages": ({"messages": []}, "messages"),
    "no role": ({"messages": [{"content": "hi"}]}, "messages[0].role"),
    "another role": ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "content, a number": ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    "a block without type": (one({"text": "a"}), "messages[0].content[0].type"),
    "a block of another type": (one({"type": "container_upload", "file_id": "a"}), "messages[0].content[0].type"),
    "what the vendor's tools did": (one({"type": "server_tool_use"}, "assistant"), "messages[0].content[0].type"),
    "a text without text": (one({"type": "text"}), "messages[0].content[0].text"),
    "a picture without source": (one({"type": "image"}), "messages[0].content[0].source"),
    "a picture's file id": (
        one({"type": "image", "source": {"type": "file", "file_id": "a"}}),
        "messages[0].content[0].source.type",
    ),
    "a picture without data": (
        one({"type": "image", "source": {"type": "base64"}}),
        "messages[0].content[0].source.data",
    ),
    "a picture that is none": (
        one({"type": "image", "source": {"type": "base64", "data": "aGk="}}),
        "messages[0].content[0].source.data",
    ),
    "a document's URL": (
        one(document({"type": "url", "url": "https://a.example/a.pdf"})),
        "messages[0].content[0].source.type",
    ),
    "a call without name": (one(use(name=None), "assistant"), "messages[0].content[0].name"),
    "a call's input, a string": (one(use(input="a"), "assistant"), "messages[0].content[0].input"),
    "a call by a user": (one(use()), "messages[0].content[0].type"),
    "a result by an assistant": (one(result("a"), "assistant"), "messages[0].content[0].type"),
    "a result without id": (one(result("a", tool_use_id=None)), "messages[0].content[0].tool_use_id"),
    "a result's block of another type": (one(result([{"type": "audio"}])), "messages[0].content[0].content[0].type"),
    "system, a picture": ({"system": [image()]}, "system[0].type"),
    "system, a number": ({"system": 1}, "system"),
    "stop_sequences, numbers": ({"stop_sequences": [1]}, "stop_sequences[0]"),
    "thinking without type": ({"thinking": {}}, "thinking.type"),
    "thinking of another type": ({"thinking": {"type": "hard"}}, "thinking.type"),
    "a format of another type": ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    "a format without schema": ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    "two tools of a name": ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
    "a tool without name": ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    "a choice without type": ({"tools": [WEATHER], "tool_choice": {}}, "tool_choice.type"),
    "a choice of another type": ({"tools": [WEATHER], "tool_choice": {"type": "all"}}, "tool_choice.type"),
    "a choice of no tool": ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "a"}}, "tool_choice.name"),
    "a choice among none": ({"tool_choice": {"type": "any"}}, "tool_choice"),
    "a choice among the vendor's": (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}], "tool_choice": {"type": "any"}},
        "tool_choice",
    ),
    "temperature, a string": ({"temperature": "hot"}, "temperature"),
}


@pytest.mark.parametrize(("body", "param"), REFUSALS.values(), ids=REFUSALS)
def test_the_error_for_an_invalid_field_names_it(body: dict[str, object], param: str) -> None:
    error = refused(**body)
    assert (error.status, error.param) == (400, param)


def test_counting_tokens_does_not_require_max_tokens() -> None:
    request = {name: value for name, value in BASE.items() if name != "max_tokens"}
    assert count_request(fields_of(request), FileReader(RULES, {}), "owner").messages == (HI,)


def test_only_picture_links_are_collected_for_fetching() -> None:
    linked = {"type": "image", "source": {"type": "url", "url": "https://a.example/a.png"}}
    fields = fields_of(
        {
            "messages": [
                said("user", linked, result([linked]), document({"type": "url", "url": "https://a.example/a.pdf"})),
                said("assistant", use(input={"source": {"type": "url", "url": "https://a.example/b.png"}})),
                {"role": "user", "content": "https://a.example/c.png"},
            ]
        }
    )
    assert list(links(fields)) == ["https://a.example/a.png"] * 2


def test_extracting_files_from_a_large_body_leaves_its_messages_unchanged() -> None:
    picture, paper = png(1), pdf()
    argument = "iVBORw0KGgo" + "A" * 100
    messages = [
        said("user", image(picture), document({"type": "base64", "data": base64(paper)})),
        said("assistant", use(input={"data": argument, "all": [{"url": f"data:,{argument}{at}"} for at in range(12)]})),
        said("user", result([image(picture)]), document({"type": "text", "data": argument})),
    ]
    fields, taken = read_without_data_urls(
        orjson.dumps({**BASE, "messages": messages}), "mark", longest_prompt=1000, min_bytes=10
    )
    assert len(taken) == 17
    chat = read_request(fields, FileReader(RULES, {}, taken)).chat
    assert chat.messages == chat_of(messages=messages).messages
