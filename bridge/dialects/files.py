"""Pictures in a request: base64 data URLs → checked pictures. Nothing decodes the pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import pybase64

from bridge.dialects.data_urls import Taken
from bridge.dialects.fields import Fields
from bridge.errors import ApiError, invalid_request
from upstream.files import File

#: What a data URL may call its content; which of the four it is, its first bytes say.
_LABELS: Final = frozenset({"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"})

_DATA_URL: Final = re.compile(r"data:([^;,]{0,100})((?:;[^;,]{0,100}){0,8}),", re.IGNORECASE)
#: What it matches is shorter.
_LABEL_BYTES: Final = 1024


class FileRules(NamedTuple):
    """What the configuration lets a request bring (`images`)."""

    max_bytes: int
    max_per_request: int


#: What fetching each linked picture gave: its bytes, or why it was refused.
Fetched: TypeAlias = Mapping[str, bytes | str]


def linked_pictures(fields: Fields) -> Iterator[str]:
    """Find the http(s) URLs of a chat's pictures, to be fetched before it is read. Whatever is wrong is passed over."""
    for message in fields.any_mappings("messages"):
        for part in message.any_mappings("content"):
            for image in part.any_mappings("image_url"):
                url = image.any("url")
                if isinstance(url, str) and _is_link(url):
                    yield url


def _is_link(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


class FileReader:
    """Reads the pictures of one request, and counts them."""

    def __init__(self, rules: FileRules, fetched: Fetched, taken: Taken = MappingProxyType({})) -> None:
        self._rules = rules
        self._fetched = fetched
        self._taken = taken
        self._count = 0

    def read_part(self, part: Fields) -> File:
        """Read an `image_url` part. Raises ApiError (400) that names the part."""
        image = part.mapping("image_url")
        if image is None:
            raise part.required("image_url")
        url = image.string("url")
        if not url:
            raise image.required("url")
        return self._read_url(url, image.path("url"))

    def read_bytes(self, data: bytes, param: str) -> File:
        """Check a picture that came as bytes. Raises ApiError (400)."""
        self._count_one(param)
        return self._checked(data, param)

    def _read_url(self, url: str, param: str) -> File:
        self._count_one(param)
        taken = self._taken.get(url)
        if taken is not None:
            url = bytes(taken[:_LABEL_BYTES]).decode("latin-1")
        label = _DATA_URL.match(url)
        if label is not None:
            encoded = url[label.end() :] if taken is None else taken[label.end() :]
            return self._checked(self._decoded(encoded, label, param), param)
        if _is_link(url):
            found = self._fetched.get(url, "pictures by http(s) URL are not fetched here (images.fetch_urls)")
            if isinstance(found, str):
                raise _invalid(f"The picture cannot be used: {found.rstrip('.')}. Send a data URL.", param)
            return self._checked(found, param)
        raise _invalid("A picture must be a data URL with base64, such as 'data:image/png;base64,…'.", param)

    def _decoded(self, encoded: str | memoryview, label: re.Match[str], param: str) -> bytes:
        kind, options = label[1].strip().lower(), label[2].lower().split(";")
        if kind not in _LABELS:
            raise _invalid(f"'{kind}' is not supported: send PNG, JPEG, GIF or WebP.", param)
        if options[-1].strip() != "base64":
            raise _invalid("The data URL is not base64: 'data:image/png;base64,…'.", param)
        if len(encoded) // 4 * 3 > self._rules.max_bytes + 2:  # before an oversized one is decoded
            raise self._too_large(param)
        try:
            return pybase64.b64decode(encoded, validate=True)
        except ValueError:
            raise _invalid("The data URL's base64 is broken.", param) from None

    def _checked(self, data: bytes, param: str) -> File:
        if len(data) > self._rules.max_bytes:
            raise self._too_large(param)
        try:
            return File.of(data)
        except ValueError:
            raise _invalid("The picture's content is none of PNG, JPEG, GIF and WebP.", param) from None

    def _count_one(self, param: str) -> None:
        self._count += 1
        if self._count > self._rules.max_per_request:
            raise _invalid(f"More than {self._rules.max_per_request} pictures (images.max_per_request).", param)

    def _too_large(self, param: str) -> ApiError:
        limit = f"The picture is larger than {self._rules.max_bytes} bytes (images.max_bytes)."
        return invalid_request("image_too_large", limit, param)


def _invalid(message: str, param: str) -> ApiError:
    return invalid_request("invalid_image", message, param)
