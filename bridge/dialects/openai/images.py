"""OpenAI's Images API: reads generations (JSON) and edits (a form or JSON), and encodes the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import orjson
import pybase64

from bridge.answering.chat import ImageRequest
from bridge.dialects.fields import Fields, Reader
from bridge.dialects.files import FileReader, is_link
from bridge.errors import ApiError, invalid_request
from upstream.protocol.files import File

#: The maximum of `n`, as at OpenAI.
MAX_COUNT: Final = 10

#: Parameters without an equivalent upstream: their types are checked, and `x-bridge-ignored` lists them.
IGNORED: Final[Mapping[str, Reader]] = {
    "size": Fields.string,
    "quality": Fields.string,
    "style": Fields.string,
    "user": Fields.string,
    "background": Fields.string,
    "moderation": Fields.string,
    "output_format": Fields.string,
    "output_compression": Fields.integer,
    "partial_images": Fields.integer,
    "input_fidelity": Fields.string,
}

#: The fields of a form that are converted to integers, if they have fewer digits than might exceed 64 bits.
_FORM_INTEGERS: Final = frozenset({"n", "output_compression", "partial_images"})
_INTEGER_DIGITS: Final = 19


def read_generation(fields: Fields, pictures: Sequence[File] = ()) -> ImageRequest:
    """Read a generation, or an edit of `pictures`. Raises ApiError (400) that names the field."""
    for name in ("model", "prompt"):
        if not (fields.string(name) or "").strip():
            raise fields.required(name)
    count = fields.integer("n", minimum=1) or 1
    if count > MAX_COUNT:
        raise fields.invalid("n", "invalid_value", f"'n' must be at most {MAX_COUNT}, not {count}.")
    if fields.boolean("stream"):
        raise fields.invalid("stream", "unsupported_parameter", "Pictures are not streamed: leave out 'stream'.")
    form = fields.string("response_format") or "url"
    if form not in ("url", "b64_json"):
        raise fields.invalid("response_format", "invalid_value", "'response_format' must be url or b64_json.")
    ignored = tuple(fields.ignored(IGNORED))
    return ImageRequest(
        fields.string("model") or "", fields.string("prompt") or "", count, form == "b64_json", tuple(pictures), ignored
    )


def read_edit(texts: Mapping[str, str], files: Iterable[tuple[str, bytes]], reader: FileReader) -> ImageRequest:
    """Read an edit from a form's texts by name, and its files in order. Raises ApiError (400) that names the field."""
    pictures: list[File] = []
    mask: tuple[str, ...] = ()
    for name, data in files:
        match name:
            case "image" | "image[]":
                pictures.append(reader.read_bytes(data, f"image[{len(pictures)}]"))
            case "mask":
                mask = ("mask",)
            case _:
                raise invalid_request(
                    "unsupported_parameter", f"This request takes no file named '{name[:50]}'.", name[:50]
                )
    request = read_generation(Fields({name: _form_value(name, text) for name, text in texts.items()}), pictures)
    if not pictures:
        raise invalid_request("missing_required_parameter", "Missing required parameter: 'image'.", "image")
    return replace(request, ignored=request.ignored + mask)


def read_json_edit(fields: Fields, reader: FileReader) -> ImageRequest:
    """Read an edit from JSON, with pictures in `image` or `images`. Raises ApiError (400) that names the field.

    A picture is a data URL, bare base64, a link, or an object with one of these in `image_url`, `url` or `b64_json`.
    """
    pictures = [_read_json_picture(item, path, reader) for item, path in _json_pictures(fields)]
    request = read_generation(fields, pictures)
    if not pictures:
        raise fields.required("image")
    return replace(request, ignored=(*request.ignored, "mask")) if "mask" in fields else request


def linked_edit_pictures(fields: Fields) -> Iterator[str]:
    """Yield the http(s) URLs of an edit's pictures, to be fetched. Malformed ones are skipped."""
    for item, path in _json_pictures(fields):
        url, _ = _picture_text(item, path)
        if url is not None and is_link(url):
            yield url


def _json_pictures(fields: Fields) -> Iterator[tuple[object, str]]:
    """Yield every item that should be a picture, with its path."""
    for name in ("image", "images", "image[]"):
        value = fields.any(name)
        if isinstance(value, list):
            yield from ((item, f"{fields.path(name)}[{at}]") for at, item in enumerate(value))
        elif value is not None:
            yield value, fields.path(name)


def _picture_text(item: object, path: str) -> tuple[str | None, str]:
    """Return the string with a picture or its URL, and the path of it; None if there is no such string."""
    while isinstance(item, dict):
        name = next((name for name in ("image_url", "url", "b64_json") if item.get(name) is not None), None)
        if name is None:
            return None, path
        item, path = item[name], f"{path}.{name}"
    return (item if isinstance(item, str) else None), path


def _read_json_picture(item: object, path: str, reader: FileReader) -> File:
    text, path = _picture_text(item, path)
    if text is None:
        if isinstance(item, dict) and "file_id" in item:
            message = "The bridge keeps no files: send the picture itself as a data URL."
            raise invalid_request("unsupported_parameter", message, f"{path}.file_id")
        message = f"'{path}' must be a picture: a data URL, base64, a link, or an object with an 'image_url'."
        raise invalid_request("invalid_type", message, path)
    return reader.read_picture_text(text, path)


def _form_value(name: str, text: str) -> object:
    if name in _FORM_INTEGERS and text.isdecimal() and len(text) < _INTEGER_DIGITS:
        return int(text)
    return {"true": True, "false": False}.get(text, text) if name == "stream" else text


def encode_answer(created: int, pictures: Iterable[str | bytes]) -> bytes:
    """Encode the pictures, each as its URL, or as its data in base64."""
    data = [
        {"url": picture} if isinstance(picture, str) else {"b64_json": pybase64.b64encode(picture).decode()}
        for picture in pictures
    ]
    return orjson.dumps({"created": created, "data": data})


def no_picture(model: str, said: str) -> ApiError:
    """Make the 502 for an image model that answered only with text."""
    return ApiError(502, "upstream_error", f"'{model}' drew nothing. It answered: {said[:300]}", retry=False)
