"""`model_news.json`: which models the site has added to its list lately, and which it has removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from bridge.state.formats import DocumentFormat, DocumentSource, StoredDocument
from bridge.state.saving import saving
from upstream.protocol.models import MAX_MODELS, Model

#: For how long a model counts as new, and for how long a removed one is remembered, in seconds.
NEW_SECONDS: Final = 7 * 86_400.0
GONE_SECONDS: Final = 90 * 86_400.0
#: The most removed models that are remembered: the last ones.
MAX_GONE: Final = 200
#: The most readings whose changes are kept in memory while they cannot be saved.
_MAX_UNSAVED: Final = 100


class Gone(NamedTuple):
    """A model that the site no longer lists: its name, its maker (None for a stealth model), since when (unix time)."""

    name: str
    maker: str | None
    at: float


class Difference(NamedTuple):
    """How a reading of the list differs from the one before: the new names, and the models that are gone."""

    new: tuple[str, ...]
    gone: tuple[Model, ...]


def difference(before: Iterable[Model], now: Iterable[Model]) -> Difference:
    """Compare two lists by public names, since the ids of models may change. Only models that can be used count."""
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

    def after(self, change: Difference, at: float) -> ModelNews:
        """The news after one more reading, at the unix time `at`. A model that comes back is not new."""
        gone_before = {each.name for each in self.gone}
        new = {name: at for name in change.new if name not in gone_before} | dict(self.new)
        removed, added = {model.name for model in change.gone}, set(change.new)
        gone = [Gone(each.name, each.organization, at) for each in change.gone if each.name not in gone_before]
        still_gone = (each for each in (*gone, *self.gone) if each.name not in added and at - each.at < GONE_SECONDS)
        return ModelNews(
            {name: since for name, since in new.items() if name not in removed and abs(at - since) < NEW_SECONDS},
            tuple(islice(still_gone, MAX_GONE)),
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
        raise ValueError("must have new and gone")


def _gone(value: object) -> Gone:
    match value:
        case [str(name), str() | None as maker, (int() | float()) as at]:
            return Gone(name, maker, float(at))
    raise ValueError("a model that is gone must have a name, a maker and a time")


#: `model_news.json`.
MODEL_NEWS: Final = DocumentFormat("model_news", 1, ModelNews.from_json, ModelNews.to_json, ModelNews(), precious=False)


class NewsStore:
    """The news, and the document that stores them, to which other processes write too. `clock` gives unix time."""

    def __init__(self, document: StoredDocument[ModelNews], clock: Callable[[], float]) -> None:
        self._document = document
        self._clock = clock
        self._unsaved: list[tuple[Difference, float]] = []
        self._saved = ModelNews()
        #: Called when there is something to `write`.
        self.on_change: Callable[[], None] = lambda: None

    async def load(self) -> None:
        """Read the document. Raises StateError."""
        self._saved = await self._document.load()

    def record(self, before: Iterable[Model], now: Iterable[Model]) -> None:
        """Record how a reading of the list differs from the one before."""
        change = difference(before, now)
        if (change.new or change.gone) and len(self._unsaved) < _MAX_UNSAVED:
            self._unsaved.append((change, self._clock()))
            self.on_change()

    async def write(self) -> None:
        """Save what was recorded. Raises StateError."""
        differences = tuple(self._unsaved)
        self._saved = await self._document.update(lambda saved: _after(saved, differences))
        del self._unsaved[: len(differences)]

    async def read(self) -> ModelNews:
        """The current news, with those of other processes. Raises StateError."""
        if await self._document.changed():
            self._saved = await self._document.load()
        return _after(self._saved, self._unsaved)


def _after(news: ModelNews, differences: Iterable[tuple[Difference, float]]) -> ModelNews:
    for change, at in differences:
        news = news.after(change, at)
    return news


@asynccontextmanager
async def kept_news(source: DocumentSource, clock: Callable[[], float]) -> AsyncIterator[NewsStore]:
    """The news, loaded from their document, and saved whenever they change. Raises StateError."""
    news = NewsStore(source.open(MODEL_NEWS), clock)
    await news.load()
    async with saving(
        "the news of models are", news.write, loss="later runs do not know what is new and gone"
    ) as saver:
        news.on_change = saver.mark_changed
        yield news
