"""Input items of the Responses API: how each is read, or the name by which it is refused."""

from __future__ import annotations

from typing import Any, Final

import pytest
from documents import bare, input_file, pdf
from pictures import data_url, png
from response_requests import read, refused

from bridge.answering.messages import Message, ToolCall
from upstream.protocol.files import File

PNG: Final = png()
PICTURE: Final = File.from_bytes(PNG)
DOCUMENT: Final = File.from_bytes(pdf())
LOOK: Final = ToolCall("call_1", "look", '{"at":1}')
PATCH: Final = ToolCall("call_2", "patch", "*** Begin", "custom")


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **more}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def call(**more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"at":1}', **more}


def custom_call(**more: Any) -> dict[str, Any]:
    return {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** Begin", **more}


def result(output: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "call_1", "output": output, **more}


def text(words: str, kind: str = "input_text") -> dict[str, Any]:
    return {"type": kind, "text": words}


REASONING: Final = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "…"}

READ: Final[dict[str, tuple[Any, list[Message]]]] = {
    "a text": ("hi", [Message("user", "hi")]),
    "a message without a type": ([{"role": "user", "content": "hi"}], [Message("user", "hi")]),
    "each role": (
        [message(role, role) for role in ("user", "assistant", "system", "developer")],
        [
            Message("user", "user"),
            Message("assistant", "assistant"),
            Message("system", "system"),
            Message("system", "developer"),
        ],
    ),
    "parts": ([user(text("one"), text("two"))], [Message("user", "one\ntwo")]),
    "an answer sent back": (
        [message("assistant", [text("hello", "output_text")], id="msg_1", status="completed", phase="final_answer")],
        [Message("assistant", "hello")],
    ),
    "a refusal": (
        [message("assistant", [{"type": "refusal", "refusal": "No."}])],
        [Message("assistant", "No.")],
    ),
    "a picture": (
        [user({"type": "input_image", "image_url": data_url(PNG), "detail": "auto"})],
        [Message("user", "", files=(PICTURE,))],
    ),
    "a picture in chat's spelling": (
        [user({"type": "input_image", "image_url": {"url": data_url(PNG)}})],
        [Message("user", "", files=(PICTURE,))],
    ),
    "a picture as base64": (
        [user({"type": "input_image", "image_url": bare(PNG)})],
        [Message("user", "", files=(PICTURE,))],
    ),
    "a PDF": ([user(input_file(pdf()))], [Message("user", "", files=(DOCUMENT,))]),
    "a PDF as base64": (
        [user({"type": "input_file", "file_data": bare(pdf())})],
        [Message("user", "", files=(DOCUMENT,))],
    ),
    "a picture as a file": (
        [user({"type": "input_file", "file_data": data_url(PNG)})],
        [Message("user", "", files=(PICTURE,))],
    ),
    "a text file": (
        [user({"type": "input_file", "filename": "a.txt", "file_data": data_url("é\n".encode(), "text/plain")})],
        [Message("user", "a.txt\né\n")],
    ),
    "a text file of another label": (
        [user({"type": "input_file", "file_data": data_url(b'{"a": 1}', "application/json")})],
        [Message("user", '{"a": 1}')],
    ),
    "a text file as base64": (
        [user({"type": "input_file", "filename": "a.md", "file_data": bare(b"# A")})],
        [Message("user", "a.md\n# A")],
    ),
    "a text file with escapes": (
        [user({"type": "input_file", "file_data": "data:text/plain,one%20two"})],
        [Message("user", "one two")],
    ),
    "an empty text file": (
        [user({"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,"})],
        [Message("user", "a.txt")],
    ),
    "a call": ([call()], [Message("assistant", "", tool_calls=(LOOK,))]),
    "a call of no arguments": (
        [call(arguments="")],
        [Message("assistant", "", tool_calls=(LOOK._replace(arguments=""),))],
    ),
    "an answer with its calls": (
        [message("assistant", "I look."), REASONING, call(), custom_call()],
        [Message("assistant", "I look.", tool_calls=(LOOK, PATCH))],
    ),
    "reasoning": ([message("user", "hi"), REASONING], [Message("user", "hi")]),
    "a result": ([result("it is red")], [Message("tool", "it is red", tool_call_id="call_1")]),
    "a result in parts": (
        [result([text("it is"), text("red"), {"type": "input_image", "image_url": data_url(PNG)}])],
        [Message("tool", "it is\nred", tool_call_id="call_1", files=(PICTURE,))],
    ),
    "a custom tool's result": (
        [{"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"}],
        [Message("tool", "done", tool_call_id="call_2")],
    ),
    "calls and results in turn": (
        [call(), result("red"), custom_call(), message("user", "go on")],
        [
            Message("assistant", "", tool_calls=(LOOK,)),
            Message("tool", "red", tool_call_id="call_1"),
            Message("assistant", "", tool_calls=(PATCH,)),
            Message("user", "go on"),
        ],
    ),
    "tools among the items": (
        [{"type": "additional_tools", "role": "developer", "tools": []}, message("user", "hi")],
        [Message("user", "hi")],
    ),
}


@pytest.mark.parametrize(("given", "expected"), READ.values(), ids=READ)
def test_every_kind_of_input_item_is_read(given: Any, expected: list[Message]) -> None:
    assert list(read({"input": given}).chat.messages) == expected


_MISSING: Final = "missing_required_parameter"
_UNSUPPORTED: Final = "unsupported_parameter"
_TYPE: Final = "invalid_type"

REFUSED: Final[dict[str, tuple[Any, str, str]]] = {
    "nothing": (None, _MISSING, "input"),
    "no items": ([], _MISSING, "input"),
    "a number": (7, _TYPE, "input"),
    "an item that is a text": (["hi"], _TYPE, "input[0]"),
    "no type": ([{"content": "hi"}], _MISSING, "input[0].type"),
    "an unknown item": ([{"type": "computer_call"}], _UNSUPPORTED, "input[0].type"),
    "a search": ([message("user", "hi"), {"type": "web_search_call", "id": "ws_1"}], _UNSUPPORTED, "input[1].type"),
    "no role": ([{"type": "message", "content": "hi"}], _MISSING, "input[0].role"),
    "an unknown role": ([message("tool", "hi")], "invalid_value", "input[0].role"),
    "no content": ([{"role": "user"}], _MISSING, "input[0].content"),
    "content that is a number": ([message("user", 1)], _TYPE, "input[0].content"),
    "a part that is a text": ([message("user", ["hi"])], _TYPE, "input[0].content[0]"),
    "a part without a type": ([user({"text": "hi"})], _MISSING, "input[0].content[0].type"),
    "audio": ([user({"type": "input_audio"})], _UNSUPPORTED, "input[0].content[0].type"),
    "a part without a text": ([user({"type": "input_text"})], _MISSING, "input[0].content[0].text"),
    "a refusal without words": (
        [message("assistant", [{"type": "refusal"}])],
        _MISSING,
        "input[0].content[0].refusal",
    ),
    "a picture's id": (
        [user({"type": "input_image", "file_id": "file-1"})],
        _UNSUPPORTED,
        "input[0].content[0].file_id",
    ),
    "no picture": ([user({"type": "input_image"})], _MISSING, "input[0].content[0].image_url"),
    "a picture that is none": (
        [user({"type": "input_image", "image_url": "data:image/png;base64,aGVsbG8="})],
        "invalid_image",
        "input[0].content[0].image_url",
    ),
    "a file's id": (
        [user({"type": "input_file", "file_id": "file-1"})],
        _UNSUPPORTED,
        "input[0].content[0].file_id",
    ),
    "a file's URL": (
        [user({"type": "input_file", "file_url": "https://example.org/a.pdf"})],
        _UNSUPPORTED,
        "input[0].content[0].file_url",
    ),
    "no file": ([user({"type": "input_file"})], _MISSING, "input[0].content[0].file_data"),
    "a file that is neither text nor PDF": (
        [user({"type": "input_file", "filename": "a.zip", "file_data": bare(b"PK\x03\x04\x00")})],
        "invalid_file",
        "input[0].content[0].file_data",
    ),
    "a text in another encoding": (
        [user({"type": "input_file", "file_data": data_url("é".encode("latin-1"), "text/plain")})],
        "invalid_file",
        "input[0].content[0].file_data",
    ),
    "a file in broken base64": (
        [user({"type": "input_file", "file_data": "data:text/plain;base64,????"})],
        "invalid_file",
        "input[0].content[0].file_data",
    ),
    "a call without an id": ([call(call_id=None)], _MISSING, "input[0].call_id"),
    "a call without a name": ([call(name="")], _MISSING, "input[0].name"),
    "a call without arguments": ([call(arguments=None)], _MISSING, "input[0].arguments"),
    "arguments that are an object": ([call(arguments={})], _TYPE, "input[0].arguments"),
    "a custom call without input": ([custom_call(input=None)], _MISSING, "input[0].input"),
    "a result without an id": ([result("red", call_id=None)], _MISSING, "input[0].call_id"),
    "a result without output": ([result(None)], _MISSING, "input[0].output"),
    "a reference to nothing": ([{"type": "item_reference", "id": "msg_1"}], "item_not_found", "input[0].id"),
    "a reference without an id": ([{"type": "item_reference"}], _MISSING, "input[0].id"),
}


@pytest.mark.parametrize(("given", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_the_error_for_an_invalid_input_item_names_it(given: Any, code: str, param: str) -> None:
    assert refused({"input": given}) == (code, param)


def test_the_detail_of_a_picture_is_reported_as_ignored() -> None:
    pictures = [{"type": "input_image", "image_url": data_url(PNG), "detail": detail} for detail in ("auto", "high")]
    assert read({"input": [user(*pictures)]}).chat.ignored == ("input_image.detail",)


def test_the_request_records_the_item_part_with_the_first_document() -> None:
    chat = read({"input": [user(text("read"), input_file(pdf()))]}).chat
    assert chat.first_document == "input[0].content[1]"
