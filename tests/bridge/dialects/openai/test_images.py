"""OpenAI's Images API: how fields and files are read, or the 400 that names the problem; and the answer."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import pytest
from pictures import SMALL, png

from bridge.answering.chat import ImageRequest
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.openai.errors import error_type
from bridge.dialects.openai.images import MAX_COUNT, encode_answer, no_picture, read_edit, read_generation
from bridge.errors import ApiError, error_headers
from upstream.protocol.files import File

A, B = png(1), png(2)


def generation(**fields: object) -> ImageRequest:
    return read_generation(Fields({"model": "m", "prompt": "a cat"} | fields))


def edit(*files: tuple[str, bytes], **texts: str) -> ImageRequest:
    reader = FileReader(FileRules(max_bytes=1000, max_per_request=3), {})
    return read_edit({"model": "m", "prompt": "a cat"} | texts, files, reader)


@dataclass(frozen=True)
class PreparedChat:
    """Fields besides model and prompt, and the image request that they are read as."""

    fields: dict[str, object]
    count: int = 1
    inline: bool = False
    ignored: tuple[str, ...] = ()


GENERATIONS = {
    "nothing else": PreparedChat({}),
    "nulls": PreparedChat({"n": None, "response_format": None, "size": None, "stream": None}),
    "one": PreparedChat({"n": 1}),
    "as many as there may be": PreparedChat({"n": MAX_COUNT}, count=MAX_COUNT),
    "URLs": PreparedChat({"response_format": "url"}),
    "bytes": PreparedChat({"response_format": "b64_json"}, inline=True),
    "not streamed": PreparedChat({"stream": False}),
    "all that has no effect": PreparedChat(
        {
            "size": "1024x1024",
            "quality": "hd",
            "style": "vivid",
            "user": "ada",
            "background": "auto",
            "moderation": "low",
            "output_format": "png",
            "output_compression": 50,
            "partial_images": 0,
            "input_fidelity": "high",
        },
        ignored=(
            *("size", "quality", "style", "user", "background", "moderation"),
            *("output_format", "output_compression", "partial_images", "input_fidelity"),
        ),
    ),
    "unknown fields": PreparedChat({"mood": {"good": 1}}),
}


@pytest.mark.parametrize("asked", GENERATIONS.values(), ids=GENERATIONS)
def test_an_image_generation_request_is_read(asked: PreparedChat) -> None:
    assert generation(**asked.fields) == ImageRequest("m", "a cat", asked.count, asked.inline, (), asked.ignored)


@pytest.mark.parametrize("asked", [asked for asked in GENERATIONS.values() if None not in asked.fields.values()])
def test_an_image_edit_form_is_read_like_a_generation_request(asked: PreparedChat) -> None:
    texts = {name: orjson.dumps(value).decode().strip('"') for name, value in asked.fields.items()}
    wanted = ImageRequest("m", "a cat", asked.count, asked.inline, (File.from_bytes(A),), asked.ignored)
    assert edit(("image", A), **texts) == wanted


class Refused(NamedTuple):
    """Fields that are refused, and the parameter and code of the error."""

    fields: dict[str, Any]
    param: str
    code: str = "invalid_value"


REFUSED = {
    "no model": Refused({"model": None}, "model", "missing_required_parameter"),
    "empty model": Refused({"model": ""}, "model", "missing_required_parameter"),
    "no prompt": Refused({"prompt": None}, "prompt", "missing_required_parameter"),
    "empty prompt": Refused({"prompt": ""}, "prompt", "missing_required_parameter"),
    "prompt a list": Refused({"prompt": ["a"]}, "prompt", "invalid_type"),
    "none": Refused({"n": 0}, "n"),
    "fewer than none": Refused({"n": -1}, "n"),
    "more than there may be": Refused({"n": MAX_COUNT + 1}, "n"),
    "a text for a number": Refused({"n": "2"}, "n", "invalid_type"),
    "a truth for a number": Refused({"n": True}, "n", "invalid_type"),
    "half a picture": Refused({"n": 1.5}, "n", "invalid_type"),
    "another form": Refused({"response_format": "png"}, "response_format"),
    "streamed": Refused({"stream": True}, "stream", "unsupported_parameter"),
    "a number for a size": Refused({"size": 1024}, "size", "invalid_type"),
    "a text for the compression": Refused({"output_compression": "50"}, "output_compression", "invalid_type"),
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_an_invalid_generation_request_is_refused_by_name(row: Refused) -> None:
    with pytest.raises(ApiError) as raised:
        generation(**row.fields)
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, row.code, row.param)


FORMS = {
    "more than there may be": Refused({"n": "11"}, "n"),
    "none": Refused({"n": "0"}, "n"),
    "no number": Refused({"n": "two"}, "n", "invalid_type"),
    "less than none": Refused({"n": "-1"}, "n", "invalid_type"),
    "streamed": Refused({"stream": "true"}, "stream", "unsupported_parameter"),
    "no truth": Refused({"stream": "yes"}, "stream", "invalid_type"),
    "empty prompt": Refused({"prompt": ""}, "prompt", "missing_required_parameter"),
}


@pytest.mark.parametrize("row", FORMS.values(), ids=FORMS)
def test_an_invalid_edit_form_is_refused_by_name(row: Refused) -> None:
    with pytest.raises(ApiError) as raised:
        edit(("image", A), **row.fields)
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, row.code, row.param)


def test_the_pictures_of_an_edit_keep_their_order() -> None:
    files = [("image[]", A), ("image[]", B), ("image", SMALL["image/webp"])]
    assert [picture.data for picture in edit(*files).pictures] == [A, B, SMALL["image/webp"]]


def test_a_mask_is_reported_as_ignored() -> None:
    request = edit(("image", A), ("mask", B), size="auto")
    assert (request.ignored, len(request.pictures)) == (("size", "mask"), 1)


FILES = {
    "no picture": ((), "image", "missing_required_parameter"),
    "a mask alone": ((("mask", A),), "image", "missing_required_parameter"),
    "another file": ((("image", A), ("video", b"")), "video", "unsupported_parameter"),
    "no picture in it": ((("image", A), ("image[]", b"<svg/>")), "image[1]", "invalid_image"),
    "empty": ((("image", b""),), "image[0]", "invalid_image"),
    "too large": ((("image", png(size=1001)),), "image[0]", "image_too_large"),
    "too many": ((("image[]", A),) * 4, "image[3]", "invalid_image"),
}


@pytest.mark.parametrize(("files", "param", "code"), FILES.values(), ids=FILES)
def test_invalid_files_of_an_edit_are_refused_by_name(
    files: tuple[tuple[str, bytes], ...], param: str, code: str
) -> None:
    with pytest.raises(ApiError) as raised:
        edit(*files)
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, code, param)


def test_an_image_answer_holds_urls_or_base64() -> None:
    answer = orjson.loads(encode_answer(1_700_000_000, ["https://r2/1?a=b&c", A]))
    assert answer == {
        "created": 1_700_000_000,
        "data": [{"url": "https://r2/1?a=b&c"}, {"b64_json": base64.b64encode(A).decode()}],
    }


def test_a_text_answer_instead_of_a_picture_is_an_upstream_error() -> None:
    error = no_picture("gpt-image-3", "I cannot draw that. " * 100)
    assert (error.status, error_type(error), error.code) == (502, "upstream_error", "upstream_error")
    assert error_headers(error)["x-should-retry"] == "false"
    assert "gpt-image-3" in error.message
    assert "I cannot draw that." in error.message
    assert len(error.message) < 400
