"""What OpenAI's APIs have in common, described: errors, models, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.openai.errors import error_type
from bridge.dialects.openai.images import IGNORED, MAX_COUNT
from bridge.dialects.schema import (
    Schema,
    answered,
    any_of,
    array,
    one_of,
    or_null,
    ref,
    taken,
    text,
    whole,
    without_effect,
    word,
)
from bridge.error_codes import CODES
from bridge.errors import ApiError
from upstream.protocol.errors import Reason

#: What an error may be called: by its code and its status, as in `errors.py`.
_TYPES: Final = sorted({error_type(ApiError(row.status, row.code, "")) for row in CODES})
_ERROR: Final[Mapping[str, Schema]] = {
    "message": text("What is wrong, and what to do."),
    "type": word(*_TYPES),
    "param": or_null(text("The path of what is wrong in the request.")),
    "code": text(),
}

_MODEL: Final[Mapping[str, Schema]] = {
    "id": text("The name to ask for."),
    "object": word("model"),
    "created": whole("Unix time, in seconds."),
    "owned_by": text("The organization, or `stealth`."),
    "capabilities": answered({"input": array(text()), "output": array(text())}),
    "modality": word("chat", "search", "image", "video", about="The bridge cannot use those of `video`."),
    "rank": or_null(whole("The place on the leader board.")),
    "context_window": whole("In tokens, more or less: the site's limit is in characters."),
}

_DRAWING: Final[Mapping[str, Schema]] = {
    "model": text("One whose modality is `image`.", minLength=1),
    "prompt": text(minLength=1),
}
_DRAWING_MORE: Final[Mapping[str, Schema]] = {
    "n": whole("So many pictures, each an evaluation of its own.", minimum=1, maximum=MAX_COUNT),
    "response_format": word("url", "b64_json", about="A signed URL, which expires, or the bytes."),
    **without_effect(IGNORED),
}
_PICTURE: Final = any_of(
    text("A data URL, bare base64, or a link (with images.fetch_urls)."),
    taken({}, {"image_url": any_of(text(), taken({"url": text()})), "url": text(), "b64_json": text()}),
)
_PICTURES: Final = any_of(_PICTURE, array(_PICTURE), about="What is to be edited; one of image and images is needed.")

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Error": answered({"error": answered(_ERROR)}),
    "ErrorInStream": answered({**_ERROR, "reason": word(*Reason, about="The word of diagnosis.")}),
    "StreamError": answered(
        {"error": ref("ErrorInStream")},
        about="An error in a stream that has begun: it says itself what status and headers say otherwise.",
    ),
    "Model": answered(_MODEL, {"display_name": text("As the site shows it.")}),
    "ModelList": answered({"object": word("list"), "data": array(ref("Model"))}),
    "ImageGenerationRequest": taken(_DRAWING, _DRAWING_MORE),
    "ImageEditRequest": taken(
        _DRAWING, {**_DRAWING_MORE, "image": _PICTURES, "images": _PICTURES, "mask": {"description": "Without effect."}}
    ),
    "ImageEditForm": {
        "type": "object",
        "properties": {
            "model": text(),
            "prompt": text(),
            "image": text("The picture; or several, each as image[].", format="binary"),
            "n": whole(minimum=1, maximum=MAX_COUNT),
            "response_format": word("url", "b64_json"),
        },
        "required": ["model", "prompt"],
    },
    "Images": answered(
        {
            "created": whole("Unix time, in seconds."),
            "data": array(one_of(answered({"url": text()}), answered({"b64_json": text()}))),
        }
    ),
}
