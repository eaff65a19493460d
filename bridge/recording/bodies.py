"""Takes the secrets out of bodies: JSON, the site's line stream, server-sent events, forms, pictures, pages.

Every function keeps the length of its input, so that a body can be cut again where it was cut before. Nothing is parsed
into objects: JSON is scanned token by token, so that whatever is not JSON is replaced as well.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from bridge.recording.stand_ins import MAX_NAMES, StandIns, finditer_in_windows, is_uuid
from bridge.recording.vocabulary import (
    CALL_WORDS,
    HEADER_WORDS,
    KEYS,
    MODEL_KEYS,
    NAMING_KEYS,
    SITE_WORDS,
    TEXT_KEYS,
    VALUES,
)
from upstream.protocol.wire import FAILED_TEXT

#: The magic bytes of pictures and documents, which are kept: the bridge looks at nothing else in them.
_MAGIC: Final = re.compile(
    rb"\x89PNG\r\n\x1a\n\0\0\0\rIHDR|\xff\xd8\xff|GIF8[79]a|RIFF....WEBPVP8[ LX]|%PDF-", re.DOTALL
)
#: How many characters of base64 hold the longest of these.
_MAGIC_CHARS: Final = 24
#: The longest number that is kept in an API's field; a longer one may identify somebody.
MAX_NUMBER_CHARS: Final = 7
_DATA_URL: Final = re.compile(r"data:(?P<type>[\w/+.-]{1,60})?;base64,")

_TOKEN: Final = re.compile(
    r'"(?P<string>(?:[^"\\]++|\\.)*+)"(?P<colon>\s*:)?|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<word>[^\W\d]\w*)', re.DOTALL
)
_LITERALS: Final = frozenset(("true", "false", "null"))
#: A line of the site's stream with a delta of text or of reasoning, without the line end.
_DELTA: Final = re.compile(r'(?P<head>(?:data: )?(?P<tag>a0|ag):")(?P<text>(?:[^"\\]++|\\.)*+)(?P<tail>"[\r \t]*)')
_LINE: Final = re.compile(r"(?P<head>(?:data: )?(?P<tag>[a-z][a-z0-9]):)(?P<value>.*)", re.DOTALL)
#: The site's name for something, by which drift is recognized. It is kept unless the request has the same word.
_SITE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,29}")
_EVENT_LINE: Final = re.compile(r"(?P<head>data: ?)(?P<value>.*)", re.DOTALL)
_EVENT_WORDS: Final = frozenset(re.findall(r"[a-z_]+", " ".join(VALUES))) | frozenset(("event", "DONE", "ping", "id"))


class RedactionContext(NamedTuple):
    """What decides which parts of a recording's bodies are kept.

    `models` are the names of models, which are kept. `written` are the words of the request, in lower case. `texts`
    keeps prompts and answers, except the secrets in them. `calls` says that the request asked for tool calls or JSON,
    and keeps the words of their syntax in answers.
    """

    models: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    texts: bool = False
    calls: bool = False


class BodyRedactor:
    """Takes the secrets out of the bodies of one recording.

    `site` says that the site wrote a body or a value; otherwise the caller or the bridge did.
    """

    def __init__(self, stand_ins: StandIns, context: RedactionContext) -> None:
        self._stand_ins = stand_ins
        self._context = context
        #: The one for what must not be kept even where texts are; None if this one keeps none either.
        self._without_texts = BodyRedactor(stand_ins, context._replace(texts=False)) if context.texts else None

    def redact(self, data: bytes, content_type: str, *, site: bool, stream: bool = False) -> bytes:
        """A body of this type; `stream` says that it is a model's answer as the site streams it."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind.startswith(("image/", "video/", "audio/")) or kind == "application/pdf":
            return _zeroed(data)
        if kind == "multipart/form-data":
            return self.form(data, content_type)
        text = data.decode("utf-8", "surrogateescape")
        if stream:
            text = self.lines(text)
        elif kind == "text/event-stream":
            text = self.events(text)
        elif kind in ("text/html", "application/xml", "text/xml") or (kind == "text/plain" and text[:1] not in "{["):
            text = self._mask(text, site=site)
        else:
            text = self.json(text, site=site)
        return text.encode("utf-8", "surrogateescape")

    def json(self, text: str, *, site: bool = False) -> str:
        """JSON, or what was meant to be JSON."""
        key = ""

        def stand_in(found: re.Match[str]) -> str:
            nonlocal key
            string, number = found["string"], found["number"]
            if string is None:
                if number is not None:
                    kept = key in KEYS and len(number) <= MAX_NUMBER_CHARS
                    return number if kept else re.sub(r"[0-9]", "1", number)
                return found[0] if found[0] in _LITERALS else self._mask(found[0], site=site)
            if found["colon"] is not None:
                key = string
                return f'"{self._key(string, site=site)}"{found["colon"]}'
            return f'"{self.value(key, string, site=site)}"'

        return self._replaced(_TOKEN.finditer(text), text, stand_in)

    def lines(self, text: str) -> str:
        """The site's line stream. All deltas of one kind are redacted as one text: a secret may extend over several."""
        lines = text.split("\n")
        deltas: dict[str, list[tuple[int, str, str, str]]] = {"a0": [], "ag": []}
        for place, line in enumerate(lines):
            found = _DELTA.fullmatch(line)
            if found is None:
                lines[place] = self._line(line)
            elif found["text"] != FAILED_TEXT:
                head, tag, content, tail = found.groups()
                deltas[tag].append((place, head, content, tail))
        for places in deltas.values():
            whole = self._text("".join([content for _, _, content, _ in places]))
            done = 0
            for place, head, content, tail in places:
                end = done + len(content)
                lines[place] = f"{head}{whole[done:end]}{tail}"
                done = end
        return "\n".join(lines)

    def events(self, text: str) -> str:
        """Server-sent events, such as the bridge's answers. No text is kept: a secret may extend over several."""
        lines = text.split("\n")
        for place, line in enumerate(lines):
            found = _EVENT_LINE.fullmatch(line)
            if found is None:
                lines[place] = self._stand_ins.mask(line, _EVENT_WORDS)
            elif found["value"] != "[DONE]":
                lines[place] = f"{found['head']}{(self._without_texts or self).json(found['value'])}"
        return "\n".join(lines)

    def drift_kind(self, kind: str) -> str:
        """A kind of drift (`upstream.protocol.drift`), which holds the site's name for something."""
        return " ".join(word if self._is_kept_in_kind(word) else self._mask(word) for word in kind.split(" "))

    def _is_kept_in_kind(self, word: str) -> bool:
        is_status = len(word) == 3 and word.isdigit()
        return self._is_site_name(word) or len(word) <= 2 or is_status  # two letters: a line's tag

    def form(self, data: bytes, content_type: str) -> bytes:
        """A form with files: the names of an API's fields are kept, everything else is replaced."""
        boundary = boundary_of(content_type)
        if not boundary:
            return _zeroed(data)
        parts = data.split(b"--" + boundary.encode())
        delimiter = b"--" + self._stand_ins.name(boundary).encode()
        return delimiter.join(self._part(part) for part in parts)

    def _part(self, part: bytes) -> bytes:
        head, blank, value = part.partition(b"\r\n\r\n")
        names = re.findall(rb'name="([^"]*)"', head)
        name = names[0].decode("utf-8", "replace") if names else ""
        shown = self._stand_ins.mask(head.decode("utf-8", "surrogateescape"), HEADER_WORDS | KEYS | _FORM_WORDS)
        head = shown.encode("utf-8", "surrogateescape")
        if not blank:
            return head
        if _MAGIC.match(value) or b"filename" in part[: len(head)]:
            end = value[-2:] if value.endswith(b"\r\n") else b""
            return head + blank + _zeroed(value.removesuffix(end)) + end
        text = value.decode("utf-8", "surrogateescape")
        text, end_of_text = (text[:-2], "\r\n") if text.endswith("\r\n") else (text, "")
        shown = text if _is_number(text) and name in KEYS else self.value(name, text, site=False)
        return head + blank + (shown + end_of_text).encode("utf-8", "surrogateescape")

    def _line(self, line: str) -> str:
        """A line of the site's stream that is not a delta."""
        found = _LINE.fullmatch(line)
        if found is None:
            return self._mask(line, site=True)
        return found["head"] + self.json(found["value"], site=True)

    def _text(self, text: str) -> str:
        """What a model wrote, with JSON's escapes."""
        if self._context.texts:
            return self._stand_ins.scrub(text)
        return self._calls(text) if self._context.calls else self._mask(text)

    def _calls(self, text: str) -> str:
        """The text of a model that was asked for tool calls or for JSON: the words of their syntax are kept."""
        return self._replaced(finditer_in_windows(_CALL_SYNTAX, text), text, lambda found: found[0])

    def _mask(self, text: str, *, site: bool = False) -> str:
        return self._stand_ins.mask(text, SITE_WORDS if site else frozenset())

    def _replaced(self, matches: Iterable[re.Match[str]], text: str, stand_in: Callable[[re.Match[str]], str]) -> str:
        """`text` with the `stand_in` of each match, and everything between the matches masked."""
        pieces: list[str] = []
        done = 0
        for found in matches:
            if found.start() > done:
                pieces.append(self._mask(text[done : found.start()]))
            pieces.append(stand_in(found))
            done = found.end()
        pieces.append(self._mask(text[done:]))
        return "".join(pieces)

    def _key(self, name: str, *, site: bool) -> str:
        if name in KEYS:
            return name
        if is_uuid(name):
            return self._stand_ins.uuid(name)
        if "\\" in name:
            return self._mask(name)
        return name if site and self._is_site_name(name) else self._stand_ins.name(name)

    def _is_site_name(self, name: str) -> bool:
        return _SITE_NAME.fullmatch(name) is not None and name.lower() not in self._context.written

    def value(self, key: str, text: str, *, site: bool) -> str:
        """The value of a field of this name: a string with JSON's escapes."""
        if not text:
            return text
        if is_uuid(text):
            return self._stand_ins.uuid(text)
        if key in MODEL_KEYS and self._is_model(text):
            return text
        if (data_url := _DATA_URL.match(text)) is not None:
            kind = data_url["type"] or ""
            shown = self._stand_ins.mask(kind, HEADER_WORDS)
            return f"data:{shown};base64,{self._base64(text[data_url.end() :])}"
        if key not in TEXT_KEYS and text in VALUES:
            return text
        if site and key == "type" and self._is_site_name(text):
            return text
        if key in NAMING_KEYS and len(text) <= 200 and "\\" not in text:
            return text if text in VALUES or text in KEYS else self._stand_ins.name(text)
        if key in TEXT_KEYS and self._context.texts:
            return self._stand_ins.scrub(text)
        if key == "arguments" or (self._context.calls and key in TEXT_KEYS and not site):
            return self._calls(text)
        return self._mask(text, site=site)

    def _is_model(self, text: str) -> bool:
        """Whether this is the name of a model, or the names of several, as in `a+b`."""
        models = self._context.models
        return text in models or models.issuperset(text.split("+"))

    def _base64(self, text: str) -> str:
        """A picture in base64: its magic bytes, then zeros."""
        start, rest = text[:_MAGIC_CHARS], text[_MAGIC_CHARS:]
        try:
            kept = b64encode(_zeroed(b64decode(start, validate=True))).decode()
        except ValueError:
            kept = self._mask(start)
        padding = len(rest) - len(rest.rstrip("="))
        return kept + "A" * (len(rest) - padding) + "=" * padding


_FORM_WORDS: Final = frozenset(
    ("Content-Disposition", "Content-Type", "filename", "name", "Content", "Disposition", "Type")
)
#: In a text with tool calls or JSON: the words of their syntax right behind a quote or bracket, and JSON's literals.
_CALL_SYNTAX: Final = re.compile(
    r"(?<=[\"'<>\[/`|｜▁=])(?:"
    + "|".join(sorted(map(re.escape, CALL_WORDS | KEYS | VALUES), key=len, reverse=True))
    + r")(?!\w)|(?<= )(?:name|to)(?==)|(?<![\w\\])(?:true|false|null)(?!\w)"
)


def names_in(text: str) -> Iterator[str]:
    """The names of tools and parameters and the stop strings in a request's JSON, and keys that no API has."""
    key = ""
    count = 0
    for found in _TOKEN.finditer(text):
        string = found["string"]
        if string is None:
            continue
        if found["colon"] is not None:
            key = string
            if string in KEYS:
                continue
        elif key not in NAMING_KEYS or string in VALUES or string in KEYS:
            continue
        count += 1
        yield string
        if count >= MAX_NAMES:
            return


def boundary_of(content_type: str) -> str:
    """The boundary that a form's content type names; '' for other types."""
    return content_type.partition("boundary=")[2].partition(";")[0].strip(' "')


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """All words of these texts, in lower case."""
    return frozenset(word for text in texts for word in re.findall(r"[^\W\d]+", text.lower()))


def _zeroed(data: bytes) -> bytes:
    """A picture or a document: its magic bytes, then zeros."""
    found = _MAGIC.match(data)
    kept = found[0] if found else b""
    return kept + b"\0" * (len(data) - len(kept))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", text) is not None
