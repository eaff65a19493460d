"""Reads the pictures and PDFs in a request from base64. Their format is checked, but their content is not decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

import pybase64

from bridge.dialects.data_urls import Extracted
from bridge.dialects.fields import Fields
from bridge.errors import ApiError, invalid_request
from upstream.protocol.files import File, is_pdf, sniff

#: The media type in a data URL does not matter: the first bytes of the content say what it is.
_DATA_URL: Final = re.compile(r"\s{0,20}data:([^;,]{0,300})((?:;[^;,]{0,300}){0,8}),", re.IGNORECASE)
#: A match of `_DATA_URL` is shorter than this.
_LABEL_BYTES: Final = 4096

#: White space that browsers remove from base64 (WHATWG Infra, "forgiving-base64 decode").
_BLANKS: Final = b" \t\n\f\r"

#: Control characters that do not occur in texts.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class FileRules(NamedTuple):
    """The configured limits (`images`) on the pictures and documents of one request together."""

    max_bytes: int
    max_per_request: int


class _Kind(NamedTuple):
    """The wording of errors about a part that must be a picture, or that may be a PDF or a picture."""

    noun: str
    formats: str
    example: str
    invalid: str
    too_large: str


_PICTURE: Final = _Kind("picture", "PNG, JPEG, GIF or WebP", "image/png", "invalid_image", "image_too_large")
_FILE: Final = _Kind("file", "PDF, PNG, JPEG, GIF or WebP", "application/pdf", "invalid_file", "file_too_large")

#: Linked pictures by URL: the data, or why it was refused, or None for a picture that is yet to be fetched.
Fetched: TypeAlias = Mapping[str, bytes | str | None]
#: A placeholder for the latter, so that the rest of the request can be checked before anything is fetched.
_TO_BE_FETCHED: Final = File(b"", "image/png", "", "image.png")


def linked_pictures(fields: Fields) -> Iterator[str]:
    """Yield the http(s) URLs of a chat's pictures, to be fetched before it is read. Malformed parts are skipped."""
    for message in fields.any_mappings("messages"):
        for part in message.any_mappings("content"):
            for image in part.any_mappings("image_url"):
                url = image.any("url")
                if isinstance(url, str) and is_link(url):
                    yield url


def is_link(url: str) -> bool:
    """Whether a picture's URL is an http(s) URL, from which it must be fetched."""
    return url[:8].lower().startswith(("http://", "https://"))


class FileReader:
    """Reads the pictures and documents of one request, and counts them.

    `first_document` is the path of the first part so far with a PDF.
    """

    def __init__(self, rules: FileRules, fetched: Fetched, extracted: Extracted = MappingProxyType({})) -> None:
        self._rules = rules
        self._fetched = fetched
        self._extracted = extracted
        self._placeholders: re.Pattern[str] | None = None  # matches those of extracted strings, with quotation marks
        self._count = 0
        self.first_document: str | None = None

    def read_picture(self, part: Fields) -> File:
        """Read an `image_url` part. Raises ApiError (400) that names the part."""
        image = part.mapping("image_url")
        if image is None:
            raise part.required("image_url")
        return self._read_url(image.nonempty_string("url"), image.path("url"))

    def read_picture_text(self, text: str, param: str) -> File:
        """Read a picture from a data URL, a link or bare base64. Raises ApiError (400) that names `param`."""
        extracted = self._extracted.get(text)
        if extracted is not None and bytes(extracted[:5]) != b"data:":  # bare base64
            self._count_one(_PICTURE, param)
            return self._check(_PICTURE, self._decode(_PICTURE, extracted, None, param), param)
        is_url = extracted is not None or is_link(text) or ":" in text[:_LABEL_BYTES]
        return self._read_url(text if is_url else f"data:{_PICTURE.example};base64,{text}", param)

    def read_text(self, text: str) -> str:
        """Return a string as it was sent; it may have been extracted from the body although it is not a file."""
        extracted = self._extracted.get(text)
        return text if extracted is None else bytes(extracted).decode(errors="replace")

    def read_json(self, text: str) -> str:
        """Return a JSON text as it was sent; strings in it may have been extracted although they are not files."""
        if not self._extracted:
            return text
        if self._placeholders is None:
            self._placeholders = re.compile(f'"({"|".join(map(re.escape, self._extracted))})"')
        return self._placeholders.sub(lambda found: f'"{self.read_text(found[1])}"', text)

    def read_file(self, part: Fields, content: Fields) -> File:
        """Read a `file` or `input_file` part: a PDF or a picture, judging by its bytes. Raises ApiError (400).

        `content` is the object with the part's `file_data`.
        """
        content.string("filename")  # only its type is checked: the site gets a generated name
        data = content.string("file_data")
        if not data:
            for name in ("file_id", "file_url"):
                if name in content:
                    message = f"The bridge does not support '{name}': send the file itself as 'file_data'."
                    raise content.invalid(name, "unsupported_parameter", message)
            raise content.required("file_data")
        return self.read_data(data, content.path("file_data"), part)

    def read_data(self, text: str, param: str, part: Fields) -> File:
        """Read a PDF or a picture from a data URL or bare base64. Raises ApiError (400) that names `param`."""
        self._count_one(_FILE, param)
        label, encoded = self._split(text)
        file = self._check(_FILE, self._decode(_FILE, encoded, label, param), param)
        if file.kind == "document" and self.first_document is None:
            self.first_document = part.own_path
        return file

    def read_input_file(self, part: Fields) -> File | str:
        """Read an `input_file`: a PDF, a picture, or a text, which follows its file name. Raises ApiError (400)."""
        name, encoded = part.string("filename"), part.string("file_data")
        text = self._text_in(encoded, part.path("file_data")) if encoded else None
        return self.read_file(part, part) if text is None else "\n".join(filter(None, (name, text)))

    def restore(self, value: object, depth: int = 8) -> object:
        """Put extracted strings back into a JSON value, down to `depth` levels."""
        match value:
            case str() if value in self._extracted:
                return bytes(self._extracted[value]).decode(errors="replace")
            case list() if self._extracted and depth:
                return [self.restore(item, depth - 1) for item in value]
            case dict() if self._extracted and depth:
                return {name: self.restore(item, depth - 1) for name, item in value.items()}
        return value

    def _text_in(self, encoded: str, param: str) -> str | None:
        """Decode the text in a data URL or bare base64; None if the content is not a text."""
        label, rest = self._split(encoded)
        if label is not None and not _is_base64(label) and label[1].strip().lower().startswith("text/"):
            data = unquote_to_bytes(bytes(rest) if isinstance(rest, memoryview) else rest)
        else:
            data = self._decode(_FILE, rest, label, param)
        if sniff(data) or is_pdf(data):
            return None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        return None if _CONTROL.search(text) or not (text or label) else text

    def read_bytes(self, data: bytes, param: str) -> File:
        """Check a picture that came as bytes. Raises ApiError (400)."""
        self._count_one(_PICTURE, param)
        return self._check(_PICTURE, data, param)

    def _read_url(self, url: str, param: str) -> File:
        self._count_one(_PICTURE, param)
        label, encoded = self._split(url)
        if label is not None:
            return self._check(_PICTURE, self._decode(_PICTURE, encoded, label, param), param)
        if is_link(url):
            found = self._fetched.get(url, "this bridge does not fetch pictures by http(s) URL (images.fetch_urls)")
            if isinstance(found, str):
                raise _invalid(_PICTURE, f"The picture cannot be used: {found.rstrip('.')}. Send a data URL.", param)
            return _TO_BE_FETCHED if found is None else self._check(_PICTURE, found, param)
        message = "A picture must be a base64 data URL, such as 'data:image/png;base64,…'."
        raise _invalid(_PICTURE, message, param)

    def _split(self, text: str) -> tuple[re.Match[str] | None, str | memoryview]:
        """Split a string, or the extracted one that it stands for, into the label of a data URL and the content."""
        extracted = self._extracted.get(text)
        if extracted is None:
            label = _DATA_URL.match(text)
            return label, text[label.end() :] if label else text
        label = _DATA_URL.match(bytes(extracted[:_LABEL_BYTES]).decode("latin-1"))
        return label, extracted[label.end() :] if label else extracted

    def _decode(self, kind: _Kind, encoded: str | memoryview, label: re.Match[str] | None, param: str) -> bytes:
        if label is not None and not _is_base64(label):
            raise _invalid(kind, f"The data URL is not base64: 'data:{kind.example};base64,…'.", param)
        try:
            if self._may_fit(len(encoded)):
                return pybase64.b64decode(encoded, validate=True)
        except ValueError:
            pass  # it may have white space or lack padding, which browsers accept
        try:
            bare = bytes(encoded, "ascii") if isinstance(encoded, str) else bytes(encoded)
            bare = bare.translate(None, _BLANKS)
            if not self._may_fit(len(bare)):  # so that a file that is too large is not decoded
                raise self._too_large(kind, param)
            bare = bare.removesuffix(b"=").removesuffix(b"=")
            return pybase64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
        except ValueError:
            raise _invalid(kind, f"The {kind.noun}'s base64 is invalid.", param) from None

    def _may_fit(self, chars: int) -> bool:
        return chars // 4 * 3 <= self._rules.max_bytes + 2

    def _check(self, kind: _Kind, data: bytes, param: str) -> File:
        if len(data) > self._rules.max_bytes:
            raise self._too_large(kind, param)
        try:
            file = File.from_bytes(data)
        except ValueError:
            file = None
        if file is None or (kind is _PICTURE and file.kind != "picture"):
            raise _invalid(kind, f"The {kind.noun}'s content is not {kind.formats}.", param)
        return file

    def _count_one(self, kind: _Kind, param: str) -> None:
        self._count += 1
        if self._count > self._rules.max_per_request:
            limit = (
                f"There are more than {self._rules.max_per_request} pictures and documents (images.max_per_request)."
            )
            raise _invalid(kind, limit, param)

    def _too_large(self, kind: _Kind, param: str) -> ApiError:
        limit = f"The {kind.noun} is larger than {self._rules.max_bytes} bytes (images.max_bytes)."
        return invalid_request(kind.too_large, limit, param)


def _is_base64(label: re.Match[str]) -> bool:
    return label[2].lower().rpartition(";")[2].strip() == "base64"


def _invalid(kind: _Kind, message: str, param: str) -> ApiError:
    return invalid_request(kind.invalid, message, param)
