"""Models and action ids out of the site's pages, scripts and server-action answers (PROTOCOL, models and upload).

Flight is React's wire format: rows `<hex>:<value>`, in a page spread over `self.__next_f.push([1,"…"])` calls,
in a server action's answer (`text/x-component`) as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from json import JSONDecoder
from typing import Literal, NamedTuple, Self

import orjson

from upstream.errors import ProtocolViolated

NO_RANK = 9007199254740991  # JavaScript's largest exact integer stands for "not ranked"

_JSON = JSONDecoder()  # not orjson: only `raw_decode` reads a value out of the middle of a text
_PUSH = re.compile(r'self\.__next_f\.push\(\[1,\s*(?=")')
_MODELS = re.compile(r'"initialModels"\s*:\s*(?=\[)')
_SCRIPT = re.compile(r"""/_next/static/chunks/[^\s"'\\<>?]+\.js(?:\?[^\s"'\\<>]*)?""")
_ACTION = re.compile(r"""createServerReference\)?\(\s*"([0-9a-f]{40,42})"[^()"]*"([\w$]+)"\s*\)""")
_ROW = re.compile(rb"\n*([0-9a-f]*):(?:T([0-9a-f]+),)?")


class FlightError(ProtocolViolated):
    """A page or answer does not hold what it should."""


class Model(NamedTuple):
    """One model of the site; `rank` and `rank_by_modality` are its places on the leader boards, 1 is best."""

    id: str
    name: str
    organization: str | None
    provider: str | None
    inputs: frozenset[str]
    outputs: frozenset[str]
    multiple_images: bool
    rank: int | None
    rank_by_modality: tuple[tuple[str, int], ...]

    @property
    def modality(self) -> Literal["image", "search", "chat"]:
        """What a call to this model must name as its modality."""
        if "image" in self.outputs:
            return "image"
        return "search" if "search" in self.outputs else "chat"

    @property
    def stealth(self) -> bool:
        """Whether the model is an unreleased, anonymous one."""
        return self.organization is None

    @property
    def video(self) -> bool:
        """Whether the model makes videos, which no call of ours can carry."""
        return "video" in self.outputs

    def to_json(self) -> dict[str, object]:
        """Plain values, the same for equal models."""
        kinds = {"inputs": sorted(self.inputs), "outputs": sorted(self.outputs)}
        return self._asdict() | kinds | {"rank_by_modality": dict(self.rank_by_modality)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The model that `to_json` wrote. Raises ValueError when `value` is of another shape."""
        match value:
            case {
                "id": str(model_id),
                "name": str(name),
                "organization": str() | None as organization,
                "provider": str() | None as provider,
                "inputs": list(inputs),
                "outputs": list(outputs),
                "multiple_images": bool(multiple_images),
                "rank": int() | None as rank,
                "rank_by_modality": dict(ranks),
            } if (
                all(isinstance(kind, str) for kind in (*inputs, *outputs, *ranks))
                and all(_is_int(place) for place in ranks.values())
                and not isinstance(rank, bool)
            ):
                return cls(
                    id=model_id,
                    name=name,
                    organization=organization,
                    provider=provider,
                    inputs=frozenset(inputs),
                    outputs=frozenset(outputs),
                    multiple_images=multiple_images,
                    rank=rank,
                    rank_by_modality=tuple(ranks.items()),
                )
        raise ValueError("this is not a model as the catalog writes it")


class ModelList(NamedTuple):
    """The models in the site's order; `skipped` counts the entries that could not be read."""

    models: tuple[Model, ...]
    skipped: int


def read_models(page: str) -> ModelList:
    """Read the models out of a page, or out of a server action's answer. Raises FlightError when it has no list."""
    lists = [_model_list(entries) for entries in _entries(page)]
    if not lists:
        raise FlightError("the page holds no list of models that could be read")
    # Raw text on the page may quote the same key: the list that has models is the site's own.
    return next((found for found in lists if found.models), lists[0])


def script_paths(page: str) -> tuple[str, ...]:
    """The paths (with their query) of the JavaScript files that a page names, in order, each once."""
    html, flight = _split(page)
    return tuple(dict.fromkeys(unescape(path) for text in (html, flight) for path in _SCRIPT.findall(text)))


def action_ids(script: str) -> dict[str, str]:
    """The server actions that a script refers to: name → id. The ids change with every deployment of the site."""
    return {name: action_id for action_id, name in _ACTION.findall(script)}


def action_result(body: bytes) -> object:
    """The value of row `1:`, a server action's result. Raises FlightError when the answer has none."""
    position = 0
    while header := _ROW.match(body, position):
        row, text_bytes = header.groups()
        start = header.end()
        if text_bytes:  # raw text of that many bytes, without a line end: it may look like rows itself
            position = start + int(text_bytes, 16)
        else:
            line_end = body.find(b"\n", start)
            position = len(body) if line_end < 0 else line_end + 1
        if row == b"1" and position <= len(body):
            value = body[start:position]
            return value.decode(errors="replace") if text_bytes else _result(value)
    raise FlightError("the answer holds no result, or was cut short before it")


def well_formed(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _result(value: bytes) -> object:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise FlightError("the action failed" if value.startswith(b"E") else "the result is not JSON") from error


def _split(page: str) -> tuple[str, str]:
    """A page without the strings that it pushes, and those strings joined: they may be cut anywhere."""
    html: list[str] = []
    flight: list[str] = []
    position = 0
    while push := _PUSH.search(page, position):
        html.append(page[position : push.end()])
        try:
            pushed, position = _JSON.raw_decode(page, push.end())
        except ValueError:  # a page cut short
            position = push.end()
        else:
            flight.append(pushed)
    return "".join(html) + page[position:], "".join(flight)


def _entries(page: str) -> Iterator[list[object]]:
    html, flight = _split(page)
    for text in (flight, html):
        for key in _MODELS.finditer(text):
            try:
                yield _JSON.raw_decode(text, key.end())[0]
            except (ValueError, RecursionError):
                continue


def _model_list(entries: list[object]) -> ModelList:
    models = tuple(model for entry in entries if (model := _model(entry)) is not None)
    return ModelList(models, skipped=len(entries) - len(models))


def _model(entry: object) -> Model | None:
    """Only `id`, `publicName` and `capabilities` are sure to be there; without them an entry is unreadable."""
    match entry:
        case {
            "id": str(model_id),
            "publicName": str(name),
            "capabilities": {"inputCapabilities": dict(inputs), "outputCapabilities": dict(outputs)},
            **rest,
        } if model_id and name:
            image = inputs.get("image")
            ranks = rest.get("rankByModality")
            return Model(
                id=well_formed(model_id),
                name=well_formed(name),
                organization=_text(rest.get("organization")),
                provider=_text(rest.get("provider")),
                inputs=_kinds(inputs),
                outputs=_kinds(outputs),
                multiple_images=_is_on(image.get("multipleImages") if isinstance(image, dict) else image),
                rank=_rank(rest.get("rank")),
                rank_by_modality=tuple(
                    (well_formed(kind), place)
                    for kind, value in (ranks.items() if isinstance(ranks, dict) else ())
                    if (place := _rank(value)) is not None
                ),
            )
    return None


def _kinds(capabilities: dict[str, object]) -> frozenset[str]:
    return frozenset(well_formed(kind) for kind, value in capabilities.items() if _is_on(value))


def _is_on(value: object) -> bool:
    """JavaScript's truth: an empty object is true. Flight writes undefined as `$undefined`."""
    return isinstance(value, dict | list) or (bool(value) and value != "$undefined")


def _text(value: object) -> str | None:
    return well_formed(value) if isinstance(value, str) and value and value != "$undefined" else None


def _rank(value: object) -> int | None:
    return value if isinstance(value, int) and _is_int(value) and 0 < value < NO_RANK else None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
