"""Structured output: extracts the JSON from an answer, drops what models put around it, and checks it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from bridge.answering.chat import JsonFormat
from bridge.answering.deltas import rewrite, text_delta
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent, ToolCalls
from bridge.answering.schemas import first_misfit
from bridge.answering.stages import ReadingStage
from bridge.answering.tools.json_values import (
    ControlEscaper,
    Extent,
    compact,
    is_too_long,
    read_nearly,
    read_value,
    skip_spaces,
)
from bridge.answering.tools.repair import json_prompt
from bridge.errors import answer_too_long, invalid_model_output
from upstream.protocol.events import TextDeltas

#: Blanks before the closing fence are not part of the pattern, because they would make a search take quadratic time.
_FENCED: Final = re.compile(
    r"^[ \t]*(?:`{3,}|~{3,})[\w+-]*[ \t]*\n(?P<inside>.*?)(?:`{3,}|~{3,})", re.MULTILINE | re.DOTALL
)
#: The beginning of a JSON object or array, as opposed to a bracket in prose.
_OBJECT: Final = re.compile(r"\{(?=\s*[\"'}])")
_OBJECT_OR_ARRAY: Final = re.compile(r"\{(?=\s*[\"'}])|\[(?=\s*(?:[\[{\"'\]\d-]|true|false|null))")
#: The maximum number of places where JSON is looked for, and where malformed JSON is mended, which is slower.
_MAX_PLACES: Final = 50
_MAX_MENDED: Final = 3
#: In JSON that models write, an opening bracket and what must follow it are within this many characters.
_OPENING_CHARS: Final = 200


class FoundJson(NamedTuple):
    """JSON that was found in an answer: its text for the caller, and its value."""

    text: str
    value: object


class JsonStage(ReadingStage):
    """Passes on only the JSON of an answer, or only its tool calls if there are any.

    In a stream, an object or array is passed on as it arrives; other values are held back until the end.
    """

    def __init__(self, form: JsonFormat, *, streamed: bool) -> None:
        self._schema = form.schema
        self._streamed = streamed and _may_only_be(form.schema, "object", "array")
        self._opening = _OBJECT if form.schema is None or _may_only_be(form.schema, "object") else _OBJECT_OR_ARRAY
        self._held: list[str] = []  # the text, until JSON is being passed on
        self._tail = ""  # the end of that text
        self._sent: list[str] = []
        self._escaper = ControlEscaper()
        self._extent: Extent | None = None  # of the JSON that is being passed on
        self._sent_chars = 0  # as upstream sent it
        self._has_other_text = False  # around the JSON
        self._called = False

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Hold text back, or pass on JSON. Raises ApiError (502) if the answer is too long to keep."""
        passed: list[AnswerEvent] = []
        for event in batch:
            if isinstance(event, TextDeltas):
                rewritten = rewrite(event, self._push)
                if rewritten is not None:
                    passed.append(rewritten)
                continue
            self._called |= isinstance(event, ToolCalls)
            passed.append(event)
        if self.size > MAX_WHOLE_CHARS:
            raise answer_too_long(MAX_WHOLE_CHARS)
        return passed

    def conclude(self, *, cut: bool, may_ask: bool) -> list[AnswerEvent]:
        """Find the JSON and check it."""
        text = "".join(self._held)
        if self._called:
            self.regenerable &= not text.strip()
            self._clear_held()
            return []
        if cut:
            self._clear_held()
            return [text_delta(text)] if text and self._extent is None else []
        if self._extent is not None:
            return self._check_sent()
        found, mistake = _find_json(text, self._schema, self._opening)
        if found is not None:
            self.regenerable &= found.text == text.strip()
            self._clear_held()
            return [text_delta(found.text)]
        if may_ask:
            self.prompt = json_prompt(mistake, has_schema=self._schema is not None)
            return []
        return self._refuse(mistake)

    def repaired(self, text: str | None) -> list[AnswerEvent]:
        """Find the JSON in the answer to the repair prompt and check it."""
        self.regenerable = False
        self._clear_held()
        if text is None:
            return self._refuse("it contains no suitable JSON, and the model could not be asked again.")
        found, mistake = _find_json(text, self._schema, self._opening)
        return self._refuse(mistake) if found is None else [text_delta(found.text)]

    def _clear_held(self) -> None:
        self._held.clear()
        self.size = 0

    def _refuse(self, mistake: str) -> list[AnswerEvent]:
        self._clear_held()
        self.error = invalid_model_output(f"The model's answer is not the requested JSON: {mistake}")
        return []

    def _push(self, text: str) -> str:
        """Take the next piece of text; return the part of it that is JSON to be passed on."""
        if self._extent is not None:
            return self._pass_on(text, self._extent)
        self._held.append(text)
        self.size += len(text)
        if not self._streamed:
            return ""
        self._tail = self._tail[-_OPENING_CHARS:] + text
        opening = self._opening.search(self._tail)
        if opening is None:
            return ""
        json = self._tail[opening.start() :]
        self._has_other_text = bool("".join(self._held)[: -len(json)].strip())
        self._clear_held()
        self._extent = Extent()
        return self._pass_on(json, self._extent)

    def _pass_on(self, text: str, extent: Extent) -> str:
        """Return the part of the text up to the end of the JSON."""
        if extent.end is not None:
            self._has_other_text |= bool(text.strip())
            return ""
        extent.add(text)
        json = text if extent.end is None else text[: extent.end - self._sent_chars]
        self._has_other_text |= bool(text[len(json) :].strip())
        self._sent_chars += len(json)
        json = self._escaper.push(json)
        self._sent.append(json)
        self.size += len(json)
        return json

    def _check_sent(self) -> list[AnswerEvent]:
        """Check the JSON that the caller has already received."""
        self.regenerable &= not self._has_other_text
        text = "".join(self._sent)
        value = read_value(text)
        if value is None or text[value.end :].strip():
            return self._refuse("it is not valid JSON.")
        mistake = _misfit_of(value.value, self._schema)
        return self._refuse(mistake) if mistake else []


def _find_json(
    text: str, schema: Mapping[str, object] | None, opening: re.Pattern[str]
) -> tuple[FoundJson | None, str]:
    """Find JSON in an answer that matches the schema; otherwise return what is wrong with the first candidate."""
    first_mistake = ""
    for found in _candidates(text, opening):
        mistake = _misfit_of(found.value, schema)
        if not mistake:
            return found, ""
        first_mistake = first_mistake or mistake
    if first_mistake:
        return None, first_mistake
    place = opening.search(text)
    too_long = place is not None and is_too_long(text, place.start())
    return None, "its JSON is not valid and is too long to be repaired." if too_long else "it contains no valid JSON."


def _misfit_of(value: object, schema: Mapping[str, object] | None) -> str:
    """Return why a value does not match; '' if it does. Without a schema it must be an object."""
    if schema is None:
        return "" if isinstance(value, dict) else "it is not a JSON object."
    misfit = first_misfit(schema, value)
    if misfit is None:
        return ""
    return f"at '{misfit.path}': {misfit.message}" if misfit.path else misfit.message


def _candidates(text: str, opening: re.Pattern[str]) -> Iterator[FoundJson]:
    """Yield what may be the JSON of an answer, the most likely first: valid JSON, then mended JSON."""
    fences = [fenced.span("inside") for fenced in islice(_FENCED.finditer(text), _MAX_PLACES)]
    ends = [(skip_spaces(text, start), end) for start, end in ((0, len(text)), *fences)]
    for place, end in ends:
        value = read_value(text, place)
        if value is not None and not text[value.end : end].strip():
            yield FoundJson(ControlEscaper().push(text[place : value.end]), value.value)
    brackets = [found.start() for found in islice(opening.finditer(text), _MAX_PLACES)]
    at = 0
    for place in brackets:
        if place >= at and (value := read_value(text, place)) is not None:
            yield FoundJson(ControlEscaper().push(text[place : value.end]), value.value)
            at = value.end
    at = 0
    for place in brackets[:_MAX_MENDED]:
        if place >= at and (value := read_nearly(text, place)) is not None:
            if value.mended:
                yield FoundJson(compact(value.value), value.value)
            at = value.end


def _may_only_be(schema: Mapping[str, object] | None, *kinds: str) -> bool:
    """Whether every value that matches is of one of these types; without a schema it must be an object."""
    if schema is None:
        return True
    types = schema.get("type")
    if isinstance(types, str):
        return types in kinds
    if isinstance(types, list):
        return bool(types) and all(name in kinds for name in types)
    return "properties" in schema and "object" in kinds
