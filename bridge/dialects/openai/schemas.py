"""The schemas that OpenAI's APIs share: errors, models, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.openai.errors import error_type
from bridge.dialects.openai.images import IGNORED, MAX_COUNT
from bridge.dialects.schema import (
    Schema,
    any_of,
    array,
    input_object,
    integer,
    literal,
    nullable,
    one_of,
    output_object,
    ref,
    string,
    without_effect,
)
from bridge.error_codes import CODES
from bridge.errors import ApiError
from upstream.protocol.errors import Reason

#: All types of errors, which follow from code and status.
_TYPES: Final = sorted({error_type(ApiError(row.status, row.code, "")) for row in CODES})
_ERROR: Final[Mapping[str, Schema]] = {
    "message": string("What is wrong, and what to do about it."),
    "type": literal(*_TYPES),
    "param": nullable(string("The path of the wrong field in the request.")),
    "code": string(),
}

_MODEL: Final[Mapping[str, Schema]] = {
    "id": string("The name to use in requests."),
    "object": literal("model"),
    "created": integer("Unix time, in seconds."),
    "owned_by": string("The organization, or `stealth` for a model without one."),
    "capabilities": output_object({"input": array(string()), "output": array(string())}),
    "modality": literal("chat", "search", "image", "video", about="The bridge cannot use models with `video`."),
    "rank": nullable(integer("The model's place on the leaderboard.")),
    "context_window": integer("In tokens, estimated: the site's limit is in characters."),
}

_DRAWING: Final[Mapping[str, Schema]] = {
    "model": string("A model whose modality is `image`.", minLength=1),
    "prompt": string(minLength=1),
}
_DRAWING_MORE: Final[Mapping[str, Schema]] = {
    "n": integer("The number of pictures; each is an evaluation of its own.", minimum=1, maximum=MAX_COUNT),
    "response_format": literal("url", "b64_json", about="A signed URL, which expires, or the picture itself."),
    **without_effect(IGNORED),
}
_PICTURE: Final = any_of(
    string("A data URL, bare base64, or an http(s) URL if `images.fetch_urls` is set."),
    input_object(
        {}, {"image_url": any_of(string(), input_object({"url": string()})), "url": string(), "b64_json": string()}
    ),
)
_PICTURES: Final = any_of(
    _PICTURE, array(_PICTURE), about="The pictures to edit; either `image` or `images` is required."
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Error": output_object({"error": output_object(_ERROR)}),
    "ErrorInStream": output_object({**_ERROR, "reason": literal(*Reason, about="The word of diagnosis.")}),
    "StreamError": output_object(
        {"error": ref("ErrorInStream")},
        about="An error in a stream that has begun: it has what the status and the headers of other errors say.",
    ),
    "Model": output_object(_MODEL, {"display_name": string("The name that the site shows.")}),
    "ModelList": output_object({"object": literal("list"), "data": array(ref("Model"))}),
    "ImageGenerationRequest": input_object(_DRAWING, _DRAWING_MORE),
    "ImageEditRequest": input_object(
        _DRAWING, {**_DRAWING_MORE, "image": _PICTURES, "images": _PICTURES, "mask": {"description": "Has no effect."}}
    ),
    "ImageEditForm": {
        "type": "object",
        "properties": {
            "model": string(),
            "prompt": string(),
            "image": string("The picture. Several pictures are sent as `image[]`.", format="binary"),
            "n": integer(minimum=1, maximum=MAX_COUNT),
            "response_format": literal("url", "b64_json"),
        },
        "required": ["model", "prompt"],
    },
    "Images": output_object(
        {
            "created": integer("Unix time, in seconds."),
            "data": array(one_of(output_object({"url": string()}), output_object({"b64_json": string()}))),
        }
    ),
}
