"""Bodies without secrets: JSON, the site's line stream, server-sent events, forms, pictures, pages.

Each function keeps the length of what it is given, so that a body can be cut again where it was cut before. Nothing is
parsed into objects: JSON is gone through string by string, so that what is not JSON at all is replaced as well.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from bridge.recording.stand_ins import MAX_NAMES, StandIns, in_windows, is_uuid
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

#: How a picture or a document begins, which is all that the bridge looks at: kept.
_MAGIC: Final = re.compile(
    rb"\x89PNG\r\n\x1a\n\0\0\0\rIHDR|\xff\xd8\xff|GIF8[79]a|RIFF....WEBPVP8[ LX]|%PDF-", re.DOTALL
)
#: Base64 of so many characters holds the longest of these.
_MAGIC_CHARS: Final = 24
#: A number of an API's field; a longer one may be anything.
MAX_NUMBER_CHARS: Final = 7
_DATA_URL: Final = re.compile(r"data:(?P<type>[\w/+.-]{1,60})?;base64,")

_TOKEN: Final = re.compile(
    r'"(?P<string>(?:[^"\\]++|\\.)*+)"(?P<colon>\s*:)?|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<word>[^\W\d]\w*)', re.DOTALL
)
_LITERALS: Final = frozenset(("true", "false", "null"))
#: A delta of text or of reasoning in the site's stream, without its line's end.
_DELTA: Final = re.compile(r'(?P<head>(?:data: )?(?P<tag>a0|ag):")(?P<text>(?:[^"\\]++|\\.)*+)(?P<tail>"[\r \t]*)')
_LINE: Final = re.compile(r"(?P<head>(?:data: )?(?P<tag>[a-z][a-z0-9]):)(?P<value>.*)", re.DOTALL)
#: What the site calls something may stay where nobody has written the same word: that is what drift is known by.
_SITE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,29}")
_EVENT_LINE: Final = re.compile(r"(?P<head>data: ?)(?P<value>.*)", re.DOTALL)
_EVENT_WORDS: Final = frozenset(re.findall(r"[a-z_]+", " ".join(VALUES))) | frozenset(("event", "DONE", "ping", "id"))
_FAILED: Final = "hasArenaError"


class Meaning(NamedTuple):
    """What is known of a recording when its bodies are gone through.

    `models` are the names of models, which are kept. `written` are the words of prompts and answers. `texts`: those are
    kept, without the secrets in them. `calls`: tools or a form were asked for, so that words of that form stay.
    """

    models: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    texts: bool = False
    calls: bool = False


class Bodies:
    """Takes the secrets out of the bodies of one recording."""

    def __init__(self, stand_ins: StandIns, meaning: Meaning) -> None:
        self._of = stand_ins
        self._meaning = meaning
        self._without_texts = Bodies(stand_ins, meaning._replace(texts=False)) if meaning.texts else None

    def any(self, data: bytes, content_type: str, *, site: bool, stream: bool = False) -> bytes:
        """A body of this type; `site`: of the site's, `stream`: an answer of a model by the site."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind.startswith(("image/", "video/", "audio/")) or kind == "application/pdf":
            return _picture(data)
        if kind == "multipart/form-data":
            return self.form(data, content_type)
        text = data.decode("utf-8", "surrogateescape")
        if stream:
            text = self.lines(text)
        elif kind == "text/event-stream":
            text = self.events(text)
        elif kind in ("text/html", "application/xml", "text/xml") or (kind == "text/plain" and text[:1] not in "{["):
            text = self._of.mask(text, SITE_WORDS if site else frozenset())
        else:
            text = self.json(text, site=site)
        return text.encode("utf-8", "surrogateescape")

    def json(self, text: str, *, site: bool = False) -> str:
        """JSON, or what was to be JSON."""
        key = ""

        def change(found: re.Match[str]) -> str:
            nonlocal key
            string, number = found["string"], found["number"]
            if string is None:
                if number is not None:
                    kept = key in KEYS and len(number) <= MAX_NUMBER_CHARS
                    return number if kept else re.sub(r"[0-9]", "1", number)
                return found[0] if found[0] in _LITERALS else self._of.mask(found[0], SITE_WORDS if site else _NONE)
            if found["colon"] is not None:
                key = string
                return f'"{self._key(string, site=site)}"{found["colon"]}'
            return f'"{self.value(key, string, site=site)}"'

        return self._between(_TOKEN.finditer(text), text, change)

    def lines(self, text: str) -> str:
        """The site's line stream; the deltas of one kind are gone through as one text, whatever was cut where."""
        lines = text.split("\n")
        deltas: dict[str, list[tuple[int, str, str, str]]] = {"a0": [], "ag": []}
        for place, line in enumerate(lines):
            found = _DELTA.fullmatch(line)
            if found is None:
                lines[place] = self._line(line)
            elif found["text"] != _FAILED:
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
        """Server-sent events, as the bridge's own answers are; a secret may be cut by them, so no text is kept."""
        lines = text.split("\n")
        for place, line in enumerate(lines):
            found = _EVENT_LINE.fullmatch(line)
            if found is None:
                lines[place] = self._of.mask(line, _EVENT_WORDS)
            elif found["value"] != "[DONE]":
                lines[place] = f"{found['head']}{(self._without_texts or self).json(found['value'])}"
        return "\n".join(lines)

    def kind(self, kind: str) -> str:
        """A kind of drift (`upstream.protocol.drift`), which holds the site's name for something."""
        return " ".join(word if self._is_plain(word) else self._of.mask(word) for word in kind.split(" "))

    def _is_plain(self, word: str) -> bool:
        return self._is_sites(word) or len(word) <= 2 or (len(word) == 3 and word.isdigit())  # a tag, a status

    def form(self, data: bytes, content_type: str) -> bytes:
        """A form with files: names of fields stay if they are an API's, all else is replaced."""
        boundary = content_type.partition("boundary=")[2].partition(";")[0].strip(' "')
        if not boundary:
            return _picture(data)
        mark = b"--" + boundary.encode()
        parts = data.split(mark)
        made = mark.replace(boundary.encode(), self._of.name(boundary).encode())
        return made.join(self._part(part) for part in parts)

    def _part(self, part: bytes) -> bytes:
        head, blank, value = part.partition(b"\r\n\r\n")
        names = re.findall(rb'name="([^"]*)"', head)
        name = names[0].decode("utf-8", "replace") if names else ""
        shown = self._of.mask(head.decode("utf-8", "surrogateescape"), HEADER_WORDS | KEYS | _FORM_WORDS)
        head = shown.encode("utf-8", "surrogateescape")
        if not blank:
            return head
        if _MAGIC.match(value) or b"filename" in part[: len(head)]:
            end = value[-2:] if value.endswith(b"\r\n") else b""
            return head + blank + _picture(value[: len(value) - len(end)]) + end
        text = value.decode("utf-8", "surrogateescape")
        text, end_of_text = (text[:-2], "\r\n") if text.endswith("\r\n") else (text, "")
        shown = text if _is_number(text) and name in KEYS else self.value(name, text, site=False)
        return head + blank + (shown + end_of_text).encode("utf-8", "surrogateescape")

    def _line(self, line: str) -> str:
        """A line of the site's stream that is no delta."""
        found = _LINE.fullmatch(line)
        if found is None:
            return self._of.mask(line, SITE_WORDS)
        return found["head"] + self.json(found["value"], site=True)

    def _text(self, text: str) -> str:
        """What a model wrote, in the spelling of JSON's strings."""
        if self._meaning.texts:
            return self._of.scrub(text)
        return self._of.mask(text) if not self._meaning.calls else self._calls(text)

    def _calls(self, text: str) -> str:
        """The text of a model that was to call tools, or to write JSON: what that is known by stays."""
        return self._between(in_windows(_CALL_MARKS, text), text, lambda found: found[0])

    def _between(self, matches: Iterable[re.Match[str]], text: str, change: Callable[[re.Match[str]], str]) -> str:
        """`text` with each match changed, and what is between the matches replaced."""
        pieces: list[str] = []
        done = 0
        for found in matches:
            if found.start() > done:
                pieces.append(self._of.mask(text[done : found.start()]))
            pieces.append(change(found))
            done = found.end()
        pieces.append(self._of.mask(text[done:]))
        return "".join(pieces)

    def _key(self, name: str, *, site: bool) -> str:
        if name in KEYS:
            return name
        if is_uuid(name):
            return self._of.uuid(name)
        if "\\" in name:
            return self._of.mask(name)
        return name if site and self._is_sites(name) else self._of.name(name)

    def _is_sites(self, name: str) -> bool:
        return _SITE_NAME.fullmatch(name) is not None and name.lower() not in self._meaning.written

    def value(self, key: str, text: str, *, site: bool) -> str:
        """A string, as it stands in JSON, of a field of this name."""
        if not text or is_uuid(text):
            return self._of.uuid(text) if text else text
        if key in MODEL_KEYS and self._is_model(text):
            return text
        if (data_url := _DATA_URL.match(text)) is not None:
            kind = data_url["type"] or ""
            shown = self._of.mask(kind, HEADER_WORDS)
            return f"data:{shown};base64,{self._base64(text[data_url.end() :])}"
        if key not in TEXT_KEYS and text in VALUES:
            return text
        if site and key == "type" and self._is_sites(text):
            return text
        if key in NAMING_KEYS and len(text) <= 200 and "\\" not in text:
            return text if text in VALUES or text in KEYS else self._of.name(text)
        if key in TEXT_KEYS and self._meaning.texts:
            return self._of.scrub(text)
        if key == "arguments" or (self._meaning.calls and key in TEXT_KEYS and not site):
            return self._calls(text)
        return self._of.mask(text, SITE_WORDS if site else frozenset())

    def _is_model(self, text: str) -> bool:
        """Whether it is the name of a model, or names of several that are compared."""
        models = self._meaning.models
        return text in models or all(name in models for name in text.split("+"))

    def _base64(self, text: str) -> str:
        """A picture in base64: how it begins, and then nothing."""
        start, rest = text[:_MAGIC_CHARS], text[_MAGIC_CHARS:]
        try:
            kept = b64encode(_picture(b64decode(start, validate=True))).decode()
        except ValueError:
            kept = self._of.mask(start)
        padding = len(rest) - len(rest.rstrip("="))
        return kept + "A" * (len(rest) - padding) + "=" * padding


_NONE: Final[frozenset[str]] = frozenset()
_FORM_WORDS: Final = frozenset(
    ("Content-Disposition", "Content-Type", "filename", "name", "Content", "Disposition", "Type")
)
#: In a text with calls or JSON: the words of a form right behind a mark, and JSON's own words.
_CALL_MARKS: Final = re.compile(
    r"(?<=[\"'<>\[/`|｜▁=])(?:"
    + "|".join(sorted(map(re.escape, CALL_WORDS | KEYS | VALUES), key=len, reverse=True))
    + r")(?!\w)|(?<= )(?:name|to)(?==)|(?<![\w\\])(?:true|false|null)(?!\w)"
)


def names_in(text: str) -> Iterator[str]:
    """The names that a request gives to tools, parameters, and the ends of an answer, and keys that are no API's."""
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


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """The words of some texts, in lower case."""
    return frozenset(word for text in texts for word in re.findall(r"[^\W\d]+", text.lower()))


def _picture(data: bytes) -> bytes:
    """A picture or a document: how it begins, and then nothing."""
    found = _MAGIC.match(data)
    kept = found[0] if found else b""
    return kept + b"\0" * (len(data) - len(kept))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", text) is not None
