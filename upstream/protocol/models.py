"""The site's models: parsed from its JSON, merged from several lists, saved and loaded.

The site lists its models in the model catalog (`read_catalog`) and on its pages (`flight.Page.models`); both
write an entry in the same form (docs/protocol.md, "Models").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, Literal, NamedTuple, Self

from upstream.protocol.errors import ProtocolViolated
from upstream.protocol.line_values import has_many_parts
from upstream.protocol.surrogates import well_formed

NO_RANK: Final = 9007199254740991  # JavaScript's largest safe integer means "not ranked"

#: The modality of the models in a catalog group; other groups do not determine it.
_MODALITY_OF_ARENA: Final[Mapping[str, Literal["chat", "search", "image", "video"]]] = {
    "text": "chat",
    "code": "chat",
    "document": "chat",
    "search": "search",
    "text-to-image": "image",
    "text-to-video": "video",
}

#: The most entries of one list, and models in total: the site has some 460 and 300.
MAX_ENTRIES: Final = 5000
MAX_MODELS: Final = 2000
#: The most groups in the catalog: the site has six.
MAX_GROUPS: Final = 100
#: The longest names, and words such as kinds of input. A model with a longer public name or id is skipped; other texts
#: are truncated.
MAX_NAME_CHARS: Final = 200
MAX_WORD_CHARS: Final = 50
#: The most kinds of input and output, and ranks, of one model.
MAX_WORDS: Final = 50


class ListUnreadable(ProtocolViolated):
    """The site's answer is not a list of models."""


class Model(NamedTuple):
    """One model of the site.

    `name` is its public name; `display_name` is shown on the site's pages, and may contradict it. `inputs` and
    `outputs` are kinds such as `text`, `image`, `file` (a PDF). `rank` and `rank_by_modality` are its leaderboard
    positions, 1 being the best. A model that is not `selectable` is listed by the site, but users cannot choose it.
    `arenas` are the catalog groups of the model, empty if only a page was read.
    """

    id: str
    name: str
    organization: str | None
    provider: str | None
    inputs: frozenset[str]
    outputs: frozenset[str]
    multiple_images: bool
    rank: int | None
    rank_by_modality: tuple[tuple[str, int], ...]
    display_name: str | None = None
    selectable: bool = True
    arenas: frozenset[str] = frozenset()

    @property
    def modality(self) -> Literal["image", "search", "chat"]:
        """The modality that a call to this model must name, unless the model makes `video`."""
        return _modality(self.arenas, self.outputs)

    @property
    def stealth(self) -> bool:
        """Whether the model is unreleased and anonymous."""
        return self.organization is None

    @property
    def video(self) -> bool:
        """Whether the model makes videos, which the bridge does not support."""
        agreed = _agreed_modality(self.arenas)
        return "video" in self.outputs if agreed is None else agreed == "video"

    def to_json(self) -> dict[str, object]:
        """Plain values, the same for equal models."""
        return self._asdict() | {
            "inputs": sorted(self.inputs),
            "outputs": sorted(self.outputs),
            "rank_by_modality": dict(self.rank_by_modality),
            "arenas": sorted(self.arenas),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` of this version or of 0.1 wrote, which had no `display_name`, `selectable` or `arenas`.

        Raises ValueError if `value` has another shape.
        """
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
                **later,
            }:
                display_name = later.get("display_name")
                selectable = later.get("selectable", True)
                arenas = later.get("arenas", [])
                if (
                    (display_name is None or isinstance(display_name, str))
                    and isinstance(selectable, bool)
                    and isinstance(arenas, list)
                    and all(isinstance(word, str) for word in (*inputs, *outputs, *ranks, *arenas))
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
                        display_name=display_name,
                        selectable=selectable,
                        arenas=frozenset(arenas),
                    )
        raise ValueError("this is not a model as the catalog writes it")


class ModelList(NamedTuple):
    """The models in the site's order; `skipped` counts the entries that could not be parsed."""

    models: tuple[Model, ...]
    skipped: int


def read_catalog(body: bytes) -> ModelList:
    """Parse the answer of `GET /nextjs-api/model-catalog`: groups of models (docs/protocol.md, "Models").

    A model in several groups has the fields of its first entry, all these groups as arenas, and is selectable if any
    entry is. Invalid groups and entries are skipped and counted. Raises ListUnreadable if the body is not a JSON list,
    or none of its groups can be parsed.
    """
    try:
        if has_many_parts(body):
            raise ValueError("too many parts")
        # Not orjson, which refuses the whole text for a lone surrogate in one name.
        groups = json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError) as error:
        raise ListUnreadable("the model catalog is not valid JSON") from error
    if not isinstance(groups, list):
        raise ListUnreadable("the model catalog is not a list of groups")
    found: dict[str, Model] = {}
    readable_groups = 0
    skipped = len(groups[MAX_GROUPS:])
    for group in groups[:MAX_GROUPS]:
        match group:
            case {"arena": str(arena), "models": list(entries)}:
                readable_groups += 1
                read = read_entries(entries)
                skipped += read.skipped
                arenas = frozenset({well_formed(arena)[:MAX_WORD_CHARS]})
                for model in read.models:
                    first = found.get(model.id, model)
                    found[model.id] = first._replace(
                        selectable=first.selectable or model.selectable, arenas=first.arenas | arenas
                    )
            case _:
                skipped += 1
    if not readable_groups:
        raise ListUnreadable("the model catalog has no group of models that can be parsed")
    return _limited(found.values(), skipped)


def read_entries(entries: Sequence[object]) -> ModelList:
    """Parse the first `MAX_ENTRIES` entries of one list, of the catalog or of a page."""
    models: list[Model] = []
    skipped = len(entries[MAX_ENTRIES:])
    for entry in entries[:MAX_ENTRIES]:
        model = _model(entry)
        if model is None:
            skipped += 1
        else:
            models.append(model)
    return _limited(models, skipped)


def _limited(models: Iterable[Model], skipped: int) -> ModelList:
    """A list of the first `MAX_MODELS`; the others count as skipped."""
    found = tuple(models)
    return ModelList(found[:MAX_MODELS], skipped + len(found[MAX_MODELS:]))


def merged(catalog: ModelList | None, page: ModelList | None) -> ModelList:
    """Merge the lists of the catalog and of the page by model id.

    The models of the page come first, in its order, which is by rank; then the others of the catalog, in its order. The
    catalog's fields take precedence; ranks, organization and provider, which it may omit, then come from the page.
    """
    from_catalog = _by_id(catalog)
    from_page = _by_id(page)
    both = [
        _completed(from_catalog[model_id], model) if model_id in from_catalog else model
        for model_id, model in from_page.items()
    ]
    rest = [model for model_id, model in from_catalog.items() if model_id not in from_page]
    skipped = sum(each.skipped for each in (catalog, page) if each is not None)
    return _limited((*both, *rest), skipped)


def _by_id(read: ModelList | None) -> dict[str, Model]:
    found: dict[str, Model] = {}
    for model in read.models if read is not None else ():
        found.setdefault(model.id, model)
    return found


def _completed(model: Model, page: Model) -> Model:
    """A model of the catalog, completed with fields that only the page has."""
    return model._replace(
        organization=model.organization or page.organization,
        provider=model.provider or page.provider,
        rank=page.rank if model.rank is None else model.rank,
        rank_by_modality=model.rank_by_modality or page.rank_by_modality,
        display_name=model.display_name or page.display_name,
        arenas=model.arenas | page.arenas,
    )


@lru_cache(maxsize=1024)  # called several times for each request
def _modality(arenas: frozenset[str], outputs: frozenset[str]) -> Literal["image", "search", "chat"]:
    """The modality of a model in these groups that makes these outputs, unless it makes videos."""
    agreed = _agreed_modality(arenas)
    if agreed is not None and agreed != "video":
        return agreed
    if "image" in outputs:
        return "image"
    return "search" if "search" in outputs else "chat"


@lru_cache(maxsize=1024)
def _agreed_modality(arenas: frozenset[str]) -> Literal["chat", "search", "image", "video"] | None:
    """The modality that the groups determine; None if they determine none, or contradict each other."""
    named = {_MODALITY_OF_ARENA[arena] for arena in arenas if arena in _MODALITY_OF_ARENA}
    return named.pop() if len(named) == 1 else None


def _model(entry: object) -> Model | None:
    """Parse an entry; None without `id`, `publicName` and `capabilities`, the only fields that are always present."""
    match entry:
        case {
            "id": str(model_id),
            "publicName": str(name),
            "capabilities": {"inputCapabilities": dict(inputs), "outputCapabilities": dict(outputs)},
            **rest,
        } if 0 < len(model_id) <= MAX_NAME_CHARS and 0 < len(name) <= MAX_NAME_CHARS:
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
                    (word, place)
                    for word, value in (_words(ranks) if isinstance(ranks, dict) else ())
                    if (place := _rank(value)) is not None
                ),
                display_name=_text(rest.get("displayName")),
                selectable=_selectable(rest.get("userSelectable")),
            )
    return None


def _kinds(capabilities: dict[str, object]) -> frozenset[str]:
    return frozenset(word for word, value in _words(capabilities) if _is_on(value))


def _words(values: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the first entries of an object, except those with long names."""
    for word, value in islice(values.items(), MAX_WORDS):
        if len(word) <= MAX_WORD_CHARS:
            yield well_formed(word), value


def _is_on(value: object) -> bool:
    """JavaScript's truthiness: an empty object is true. Flight writes undefined as `$undefined`."""
    return isinstance(value, dict | list) or (bool(value) and value != "$undefined")


def _selectable(value: object) -> bool:
    """Whether a model can be chosen: the default if the value is absent, null or undefined."""
    return value is None or value == "$undefined" or _is_on(value)


def _text(value: object) -> str | None:
    return well_formed(value)[:MAX_NAME_CHARS] if isinstance(value, str) and value and value != "$undefined" else None


def _rank(value: object) -> int | None:
    return value if isinstance(value, int) and _is_int(value) and 0 < value < NO_RANK else None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
