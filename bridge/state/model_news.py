"""`model_news.json`: which models the site has begun to list in the last days, and which it lists no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from bridge.state.forms import DocumentForm, DocumentSource, StoredDocument
from bridge.state.saving import Saving, saving
from upstream.protocol.models import MAX_MODELS, Model

#: For how long a model counts as new, and for how long one that is gone is remembered, in seconds.
NEW_SECONDS: Final = 7 * 86_400.0
GONE_SECONDS: Final = 90 * 86_400.0
#: The most models that are remembered as gone: the last ones.
MAX_GONE: Final = 200
#: The most readings that wait for a disk that refuses.
_MAX_WAITING: Final = 100


class Gone(NamedTuple):
    """A model that the site lists no more: its name, its maker (None for a stealth model), since when (unix time)."""

    name: str
    maker: str | None
    at: float


class Difference(NamedTuple):
    """What a reading of the list changed: names that were not there before, and models that are there no more."""

    new: tuple[str, ...]
    gone: tuple[Model, ...]


def difference(before: Iterable[Model], now: Iterable[Model]) -> Difference:
    """Compare two lists by public names: the site gives a model another id at times. Only models that can be used."""
    earlier, later = _by_name(before), _by_name(now)
    return Difference(
        tuple(name for name in later if name not in earlier),
        tuple(model for name, model in earlier.items() if name not in later),
    )


def _by_name(models: Iterable[Model]) -> dict[str, Model]:
    return {model.name: model for model in models if model.selectable and not model.video}


@dataclass(frozen=True, slots=True)
class ModelNews:
    """`new` has the unix time at which each name was first listed; `gone` has the latest first."""

    new: Mapping[str, float] = field(default_factory=dict)
    gone: tuple[Gone, ...] = ()

    def after(self, found: Difference, at: float) -> ModelNews:
        """The news after a reading at the unix time `at`. A model that comes back is not new."""
        before = {each.name: each for each in self.gone}
        new = {name: at for name in found.new if name not in before} | dict(self.new)
        left = {model.name: Gone(model.name, model.organization, at) for model in found.gone}
        back = set(found.new)
        gone = [*(left[name] for name in left if name not in before), *self.gone]
        return ModelNews(
            {name: since for name, since in new.items() if name not in left and abs(at - since) < NEW_SECONDS},
            tuple(islice((each for each in gone if each.name not in back and at - each.at < GONE_SECONDS), MAX_GONE)),
        )

    def is_new(self, name: str, now: float) -> bool:
        """Whether a model is new at the unix time `now`."""
        return now - self.new.get(name, float("-inf")) < NEW_SECONDS

    def to_json(self) -> dict[str, object]:
        """Plain values for the state file."""
        return {"new": dict(self.new), "gone": [list(each) for each in self.gone]}

    @classmethod
    def from_json(cls, value: object) -> ModelNews:
        """Read what `to_json` wrote. Raises ValueError or TypeError."""
        match value:
            case {"new": dict(new), "gone": list(gone)}:
                kept = {str(name): float(at) for name, at in islice(new.items(), MAX_MODELS)}
                return cls(kept, tuple(map(_gone, gone[:MAX_GONE])))
        raise ValueError("news need new and gone")


def _gone(value: object) -> Gone:
    match value:
        case [str(name), str() | None as maker, (int() | float()) as at]:
            return Gone(name, maker, float(at))
    raise ValueError("a model that is gone needs name, maker and time")


#: `model_news.json`: what is new and gone.
MODEL_NEWS: Final = DocumentForm("model_news", 1, ModelNews.from_json, ModelNews.to_json, ModelNews(), precious=False)


class KeptNews:
    """The news, and their document, which other processes write too. `clock` gives unix time."""

    def __init__(self, document: StoredDocument[ModelNews], clock: Callable[[], float]) -> None:
        self._document = document
        self._clock = clock
        self._waiting: list[tuple[Difference, float]] = []
        self._known = ModelNews()
        self._saving: Saving | None = None

    async def load(self) -> None:
        """Read the document. Raises StateError."""
        self._known = await self._document.load()

    def save_by(self, saving: Saving) -> None:
        """Have `saving` call `write`."""
        self._saving = saving

    def note(self, before: Iterable[Model], now: Iterable[Model]) -> None:
        """Note what a reading of the list has changed."""
        found = difference(before, now)
        if self._saving is not None and (found.new or found.gone) and len(self._waiting) < _MAX_WAITING:
            self._waiting.append((found, self._clock()))
            self._saving.changed()

    async def write(self) -> None:
        """Write what was noted. Raises StateError."""
        noted = tuple(self._waiting)
        self._known = await self._document.update(lambda kept: _after(kept, noted))
        del self._waiting[: len(noted)]

    async def read(self) -> ModelNews:
        """The news as they are now, with those of other processes. Raises StateError."""
        if await self._document.changed():
            self._known = await self._document.load()
        return _after(self._known, self._waiting)


def _after(news: ModelNews, noted: Iterable[tuple[Difference, float]]) -> ModelNews:
    for found, at in noted:
        news = news.after(found, at)
    return news


@asynccontextmanager
async def kept_news(source: DocumentSource, clock: Callable[[], float]) -> AsyncIterator[KeptNews]:
    """The news as the last run has left them, saved whenever there are more. Raises StateError."""
    news = KeptNews(source.open(MODEL_NEWS), clock)
    await news.load()
    async with saving("the news of models are", news.write, loss="what is new and gone is not known later") as kept:
        news.save_by(kept)
        yield news
